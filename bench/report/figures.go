package report

import (
	"fmt"
	"image/color"
	"strings"

	"gonum.org/v1/plot/plotter"

	"vmm/bench/result"
	"vmm/bench/stats"
)

// Figures draws all figures for which there are results.
func Figures(r *result.Run) ([]*Figure, error) {
	var figures []*Figure
	for _, draw := range []func(*result.Run) (*Figure, error){
		creation, ecdf, phases, parallel, beside, marginal, minimum, images, density, throughput, latency, sorting, calls, rebuild,
	} {
		f, err := draw(r)
		if err != nil {
			return nil, err
		}
		if f != nil && len(f.Rows) > 0 {
			figures = append(figures, f)
		}
	}
	return figures, nil
}

// subjects are those that were measured.
func subjects(r *result.Run) []result.Subject {
	var list []result.Subject
	for _, s := range r.Subjects {
		if s.Missing == "" {
			list = append(list, s)
		}
	}
	return list
}

// colorOf is the colour of a subject: that of its runtime.
func colorOf(r *result.Run, s result.Subject) color.Color {
	i := 0
	seen := map[string]bool{}
	for _, o := range r.Subjects {
		if o.Runtime == s.Runtime {
			break
		}
		if !seen[o.Runtime] {
			seen[o.Runtime] = true
			i++
		}
	}
	return palette[i%len(palette)]
}

// label is how a subject is called in figures.
func label(s result.Subject) string { return s.Runtime + ", " + strings.TrimPrefix(s.App, "rest-") }

// dashed tells apart the applications of one runtime.
func dashed(r *result.Run, s result.Subject) bool {
	return len(r.Config.Apps) > 1 && s.App == r.Config.Apps[1]
}

// barFigure is a figure with a bar for each subject, from the samples of a metric.
func barFigure(r *result.Run, f *Figure, suite, metric string, x float64, divisor float64, logarithmic bool) *Figure {
	var list []bar
	var colors []color.Color
	unit := result.Metrics[metric].Unit
	f.Columns = []string{"runtime", "median", "95% interval", "p90", "p99", "n"}
	for _, s := range subjects(r) {
		values := r.Values(suite, s, metric, x)
		if len(values) == 0 {
			continue
		}
		m := stats.Summarize(values)
		list = append(list, bar{
			name: label(s), parts: []float64{m.Median / divisor}, low: m.Low / divisor, high: m.High / divisor, label: format(m.Median, unit),
		})
		colors = append(colors, colorOf(r, s))
		f.Rows = append(f.Rows, summaryRow(label(s), m, unit))
	}
	f.bars(list, logarithmic, func(bar, _ int) color.Color { return colors[bar] })
	return f
}

func summaryRow(name string, m stats.Summary, unit string) []string {
	return []string{
		name, format(m.Median, unit), format(m.Low, unit) + " to " + format(m.High, unit), format(m.P90, unit), format(m.P99, unit), fmt.Sprint(m.N),
	}
}

func creation(r *result.Run) (*Figure, error) {
	f := newFigure("creation", "What it costs to create one",
		"From before the runtime's program is executed to the first response with status 200, one at a time. Bars are medians, lines their 95% bootstrap intervals. The axis is logarithmic.",
		"milliseconds", "")
	return barFigure(r, f, "start", "http", 1, 1e-3, true), nil
}

func ecdf(r *result.Run) (*Figure, error) {
	f := newFigure("ecdf", "Starts: the part of them that was done after a time",
		"Thick lines end with the first response, thin ones of the same colour with the first program in it. Every start is in it; none was left out.",
		"milliseconds since the program was executed", "part of the starts")
	f.Columns = []string{"runtime", "until", "median", "95% interval", "p90", "p99", "n"}
	var list []series
	for _, s := range subjects(r) {
		for _, metric := range []string{"http", "init"} {
			values := r.Values("start", s, metric, 1)
			if len(values) == 0 {
				continue
			}
			steps := stats.ECDF(values)
			points := plotter.XYs{{X: steps[0].X * 1e3, Y: 0}}
			for _, step := range steps {
				points = append(points, plotter.XY{X: step.X * 1e3, Y: step.P})
			}
			name, until := label(s), "first response"
			if metric == "init" {
				name, until = name+": init", "first program"
			}
			list = append(list, series{name: name, points: points, color: colorOf(r, s), dashed: metric == "init", steps: true})
			m := summaryRow(label(s), stats.Summarize(values), "s")
			f.Rows = append(f.Rows, append([]string{m[0], until}, m[1:]...))
		}
	}
	f.How = strings.Replace(f.How, "Thick lines end with the first response, thin ones of the same colour with", "Solid lines end with the first response, dashed ones of the same colour with", 1)
	return f, f.lines(list, true, false)
}

// phaseNames are the parts of a start.
var phaseNames = []string{"runtime, until the guest's first instruction", "kernel, until its first program", "program, until the first response"}

func phases(r *result.Run) (*Figure, error) {
	f := newFigure("phases", "Where the time of a start goes",
		"Medians of each interval as a part of the whole, which is written beside it; one start at a time. The host's kernel tells when a guest is entered first and when a program is executed; guests write to port 0x80 when their first program begins. A container has no kernel of its own to boot: its runtime executes the application. An interval that cannot be seen from outside is part of the next.",
		"percent of the start", "")
	f.Columns = []string{"runtime", "runtime (until guest or application)", "kernel", "program", "n"}
	var list []bar
	for _, s := range subjects(r) {
		http := r.Values("start", s, "http", 1)
		if len(http) == 0 {
			continue
		}
		end := stats.Quantile(http, 0.5)
		guest, init := r.Values("start", s, "guest", 1), r.Values("start", s, "init", 1)
		first, second := 0.0, 0.0
		switch isGuest := s.Kind == "virtual machine" || s.Kind == "unikernel"; {
		case isGuest && len(guest) > 0:
			first = stats.Quantile(guest, 0.5)
			if len(init) > 0 {
				second = stats.Quantile(init, 0.5) - first
			}
		case !isGuest && len(init) > 0:
			first = stats.Quantile(init, 0.5)
		}
		percent := 100 / end
		parts := []float64{first * percent, second * percent, (end - first - second) * percent}
		list = append(list, bar{name: label(s), parts: parts, label: seconds(end, 1)})
		f.Rows = append(f.Rows, []string{label(s), seconds(first, 1), seconds(second, 1), seconds(end-first-second, 1), fmt.Sprint(len(http))})
	}
	colors := []color.Color{palette[0], palette[3], palette[2]}
	f.bars(list, false, func(_, part int) color.Color { return colors[part] })
	f.How += " Blue: " + phaseNames[0] + "; red: " + phaseNames[1] + "; green: " + phaseNames[2] + "."
	return f, nil
}

// lineFigure is a figure with a line for each subject: medians over X.
func lineFigure(r *result.Run, f *Figure, suite, metric, x string, scaleX, divisor float64, logX, logY bool) (*Figure, error) {
	f.Columns = []string{"runtime", x, "median", "95% interval", "p90", "p99", "n"}
	unit := result.Metrics[metric].Unit
	var list []series
	for _, s := range subjects(r) {
		var points plotter.XYs
		for _, at := range r.Xs(suite, s, metric) {
			m := r.Summary(suite, s, metric, at)
			if (logX && at <= 0) || (logY && m.Median <= 0) {
				continue
			}
			points = append(points, plotter.XY{X: at * scaleX, Y: m.Median / divisor})
			row := summaryRow(label(s), m, unit)
			f.Rows = append(f.Rows, append([]string{row[0], number(at, 1)}, row[1:]...))
		}
		if len(points) > 0 {
			list = append(list, series{name: label(s), points: points, color: colorOf(r, s), dashed: dashed(r, s)})
		}
	}
	return f, f.lines(list, logX, logY)
}

func parallel(r *result.Run) (*Figure, error) {
	f := newFigure("parallel", "Starting many at once",
		"Time to the first response of each of the instances that were started at the same moment: medians. Their network devices were there before.",
		"instances started at once", "milliseconds")
	return lineFigure(r, f, "start", "http", "at once", 1, 1e-3, true, true)
}

func beside(r *result.Run) (*Figure, error) {
	f := newFigure("beside", "Starting beside others",
		"Time to the first response of one more instance, while others run and are idle.",
		"instances that run already", "milliseconds")
	return lineFigure(r, f, "density", "http_beside", "running", 1, 1e-3, false, true)
}

func marginal(r *result.Run) (*Figure, error) {
	f := newFigure("memory", "Memory for one more",
		"Growth of the proportional set size (PSS) of all its processes, from one idle instance to three, divided by two (of a distribution, to two): what they share counts once. For machines, the guest's RAM that was touched is part of it.",
		"MiB", "")
	barFigure(r, f, "memory", "pss", -1, 1<<20, true)
	f.Columns = []string{"runtime", "PSS", "private dirty", "RSS", "beside the guest's RAM", "page tables", "cgroup", "host's available memory", "n"}
	f.Rows = nil
	for _, s := range subjects(r) {
		row := []string{label(s)}
		n := 0
		for _, metric := range []string{"pss", "private_dirty", "rss", "outside_guest", "page_tables", "cgroup", "system"} {
			v := r.Values("memory", s, metric, -1)
			row = append(row, size(stats.Quantile(v, 0.5), len(v)))
			n = max(n, len(v))
		}
		if n > 0 {
			f.Rows = append(f.Rows, append(row, fmt.Sprint(n)))
		}
	}
	return f, nil
}

func minimum(r *result.Run) (*Figure, error) {
	f := newFigure("minimum", "The smallest memory that serves",
		"Found by bisection, to 1 MiB (16 MiB for a distribution): the smallest RAM of a machine, or bound of the cgroup of a process or container, with which it starts, answers, and sorts 100 integers. What a container runtime itself needs is outside the bound.",
		"MiB", "")
	return barFigure(r, f, "memory", "minimum", -1, 1<<20, true), nil
}

func images(r *result.Run) (*Figure, error) {
	f := newFigure("images", "What has to be there to start one",
		"Bytes on disk of all that an instance is started from, without the runtime's own program: the application, and where there is one the kernel, the initial RAM disk and the disk. Read is what of it was in the page cache after a start with an empty one, the kernel's reading ahead included.",
		"MiB", "")
	f.Columns = []string{"runtime", "on disk", "size", "read", "files"}
	var list []bar
	var colors []color.Color
	for _, s := range subjects(r) {
		disk, bytes := imageSize(s), int64(0)
		var names []string
		for _, file := range s.Files {
			bytes += file.Size
			names = append(names, file.Role+" "+size(float64(file.Size), 1)+", sha256 "+file.SHA256[:min(12, len(file.SHA256))])
		}
		if disk == 0 {
			continue
		}
		read := r.Values("start", s, "read", -1)
		v := float64(disk) / (1 << 20)
		list = append(list, bar{name: label(s), parts: []float64{v}, label: size(float64(disk), 1)})
		colors = append(colors, colorOf(r, s))
		f.Rows = append(f.Rows, []string{label(s), size(float64(disk), 1), size(float64(bytes), 1), size(stats.Quantile(read, 0.5), len(read)), strings.Join(names, "; ")})
	}
	f.bars(list, true, func(bar, _ int) color.Color { return colors[bar] })
	return f, nil
}

func density(r *result.Run) (*Figure, error) {
	f := newFigure("density", "Memory of many",
		"Proportional set sizes of all processes of all instances, idle, summed.",
		"instances", "MiB")
	return lineFigure(r, f, "density", "density_sum", "instances", 1, 1<<20, true, true)
}

func throughput(r *result.Run) (*Figure, error) {
	f := newFigure("requests", "Requests a second",
		"GET / over 16 connections, each with one request at a time (a closed loop), by fasthttp's client on processors of its own. Where the client used more than nine tenths of them it was the limit, and the figure is a lower bound: the table says so.",
		"requests a second", "")
	barFigure(r, f, "rest", "requests", -1, 1, true)
	f.Columns = append(f.Columns, "client's processors")
	k := 0
	for _, s := range subjects(r) {
		if v := r.Values("rest", s, "client_cpu", -1); len(v) > 0 && k < len(f.Rows) {
			text := fmt.Sprintf("%.0f%%", 100*stats.Quantile(v, 0.5))
			if clientBound(r, s) {
				text += ": the client was the limit"
			}
			f.Rows[k] = append(f.Rows[k], text)
			k++
		}
	}
	return f, nil
}

func latency(r *result.Run) (*Figure, error) {
	f := newFigure("latency", "Latency at fixed rates: 99th percentile",
		"GET / sent at fixed times (an open loop, by vegeta), whatever became of the requests before; latency counts from when a request was due.",
		"requests a second", "milliseconds")
	f, err := lineFigure(r, f, "rest", "latency_p99", "rate", 1, 1e-3, true, true)
	if err != nil {
		return nil, err
	}
	f.Columns = []string{"runtime", "rate", "p50", "p90", "p99", "max", "answered", "n"}
	f.Rows = nil
	for _, s := range subjects(r) {
		for _, x := range r.Xs("rest", s, "latency_p99") {
			row := []string{label(s), number(x, 1)}
			n := 0
			for _, metric := range []string{"latency_p50", "latency_p90", "latency_p99", "latency_max"} {
				m := r.Summary("rest", s, metric, x)
				row = append(row, seconds(m.Median, m.N))
				n = m.N
			}
			row = append(row, fmt.Sprintf("%.1f%%", 100*r.Summary("rest", s, "success", x).Median), fmt.Sprint(n))
			f.Rows = append(f.Rows, row)
		}
	}
	return f, nil
}

func sorting(r *result.Run) (*Figure, error) {
	f := newFigure("sort", "Bubble sort",
		"POST /sort with integers in descending order, from sending them to having read the answer.",
		"integers", "milliseconds")
	return lineFigure(r, f, "sort", "sort", "integers", 1, 1e-3, true, true)
}

func calls(r *result.Run) (*Figure, error) {
	f := newFigure("calls", "System calls of the host",
		"Distinct system calls that the processes which run the workload made, from their execution through 50 requests, by strace. For machines they are the monitor's: the guest itself can make none.",
		"distinct system calls", "")
	barFigure(r, f, "isolation", "syscalls", -1, 1, false)
	f.Columns = []string{"runtime", "made", "made, starting included", "open to the workload", "after escape", "seccomp", "no new privileges", "capabilities", "namespaces of its own", "user", "threads", "kernel"}
	f.Rows = nil
	for _, s := range subjects(r) {
		cell := func(metric string) string {
			v := r.Values("isolation", s, metric, -1)
			return number(stats.Quantile(v, 0.5), len(v))
		}
		if cell("capabilities") == "-" {
			continue
		}
		f.Rows = append(f.Rows, []string{
			label(s), cell("syscalls"), cell("syscalls_start"), cell("syscalls_open"), cell("syscalls_escaped"), r.Fact(s, "seccomp"), r.Fact(s, "no_new_privs"),
			cell("capabilities"), r.Fact(s, "namespaces"), r.Fact(s, "user"), cell("isolation_threads"), r.Fact(s, "kernel"),
		})
	}
	return f, nil
}

func rebuild(r *result.Run) (*Figure, error) {
	f := newFigure("rebuild", "From a changed source to the first response",
		"The C application is compiled, linked and started: as a unikernel together with its TCP/IP and drivers, of which only the application is compiled, and as a program alone in a container.",
		"seconds", "")
	return barFigure(r, f, "start", "rebuild", -1, 1, false), nil
}
