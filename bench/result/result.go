// Package result is what a benchmark run leaves behind: every single value that
// was measured, what could not be, and on what it ran. docs/bench.md describes
// the files; Schema checks them.
package result

import (
	"cmp"
	"slices"
	"time"

	"vmm/bench/stats"
)

// Version is the version of the files' format. It changes when a field changes its
// meaning or goes.
const Version = 1

// Run is all that a run has to tell. It is the file results.json.
type Run struct {
	Version     int         `json:"version"`
	Started     time.Time   `json:"started"`
	Finished    time.Time   `json:"finished"`
	Complete    bool        `json:"complete"` // false: it was interrupted
	Config      Config      `json:"config"`
	Environment Environment `json:"environment"`
	Subjects    []Subject   `json:"subjects"`
	Summaries   []Summary   `json:"summaries"`
	Samples     []Sample    `json:"samples"`
	Failures    []Failure   `json:"failures"`
	Facts       []Fact      `json:"facts"`
}

// Config is what was asked for.
type Config struct {
	Suites    []string `json:"suites"`
	Runtimes  []string `json:"runtimes"`
	Apps      []string `json:"apps"`
	N         int      `json:"n"`
	Cold      bool     `json:"cold"`
	Seed      uint64   `json:"seed"`
	Parallel  []int    `json:"parallel"`   // how many start at once
	Rates     []int    `json:"rates"`      // requests a second of the open loop
	SortSizes []int    `json:"sort_sizes"` // integers of an array to sort
	Seconds   float64  `json:"seconds"`    // of load, for each figure of the suite rest
	Density   int      `json:"density"`    // instances at the most
	// DensityReserve is the memory in MiB that the host is left with, DensityP99 the
	// latency in seconds at which instances are too many.
	DensityReserve int64   `json:"density_reserve"`
	DensityP99     float64 `json:"density_p99"`
	WorkCPUs       []int   `json:"work_cpus"`   // where the runtimes run
	ClientCPUs     []int   `json:"client_cpus"` // where the bench and its load generator run
}

// Subject is a runtime with an application in it: a row of the report.
type Subject struct {
	Runtime string `json:"runtime"`
	App     string `json:"app"`
	// Version is the runtime's own; "" when it is missing.
	Version string `json:"version,omitempty"`
	// Missing says why there is nothing measured, and how to get it.
	Missing string `json:"missing,omitempty"`
	// Kind is how it is isolated: process, container, virtual machine...
	Kind string `json:"kind"`
	// Confined says whose process the workload is, and what is kept from it.
	Confined string `json:"confined,omitempty"`
	// Files are what it is started from.
	Files []File `json:"files,omitempty"`
}

// Name is the row's name.
func (s Subject) Name() string { return s.Runtime + "/" + s.App }

// File is a file that a subject is started from.
type File struct {
	Role   string `json:"role"` // application, kernel, initramfs, disk
	Path   string `json:"path"`
	Size   int64  `json:"size"`    // bytes that it has
	OnDisk int64  `json:"on_disk"` // bytes that it takes
	SHA256 string `json:"sha256"`
}

// Sample is one measured value. It is a line of samples.csv.
type Sample struct {
	Trial   string  `json:"trial"` // what it was part of; unique in a run
	Suite   string  `json:"suite"`
	Runtime string  `json:"runtime"`
	App     string  `json:"app"`
	Metric  string  `json:"metric"` // see Metrics
	X       float64 `json:"x"`      // what it is a function of: instances, integers, requests a second
	Index   int     `json:"index"`  // of the instance within the trial
	Value   float64 `json:"value"`
}

// Failure is a trial without a result, and why.
type Failure struct {
	Trial   string `json:"trial"`
	Suite   string `json:"suite"`
	Runtime string `json:"runtime"`
	App     string `json:"app"`
	Message string `json:"message"`
}

// Fact is something found out about a subject that is not a number.
type Fact struct {
	Trial   string `json:"trial"`
	Suite   string `json:"suite"`
	Runtime string `json:"runtime"`
	App     string `json:"app"`
	Name    string `json:"name"`
	Value   string `json:"value"`
}

// Summary is the statistics of all samples of a subject that measure the same.
type Summary struct {
	Suite   string  `json:"suite"`
	Runtime string  `json:"runtime"`
	App     string  `json:"app"`
	Metric  string  `json:"metric"`
	Unit    string  `json:"unit"`
	X       float64 `json:"x"`
	stats.Summary
}

type key struct {
	suite, runtime, app, metric string
	x                           float64
}

// Summarize fills in r.Summaries.
func (r *Run) Summarize() {
	groups := map[key][]float64{}
	for _, s := range r.Samples {
		k := key{s.Suite, s.Runtime, s.App, s.Metric, s.X}
		groups[k] = append(groups[k], s.Value)
	}
	r.Summaries = []Summary{}
	for k, values := range groups {
		r.Summaries = append(r.Summaries, Summary{
			Suite: k.suite, Runtime: k.runtime, App: k.app, Metric: k.metric, Unit: Metrics[k.metric].Unit, X: k.x,
			Summary: stats.Summarize(values),
		})
	}
	slices.SortFunc(r.Summaries, func(a, b Summary) int {
		return cmp.Or(cmp.Compare(a.Suite, b.Suite), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Runtime, b.Runtime),
			cmp.Compare(a.App, b.App), cmp.Compare(a.X, b.X))
	})
}

// Widen adds to what was asked for in r, and to its subjects, those of a part of the
// same run that was before it.
func (r *Run) Widen(before *Run) {
	c, b := &r.Config, before.Config
	for _, lists := range [][2]*[]string{{&c.Suites, &b.Suites}, {&c.Runtimes, &b.Runtimes}, {&c.Apps, &b.Apps}} {
		*lists[0] = union(*lists[0], *lists[1])
	}
	for _, lists := range [][2]*[]int{{&c.Parallel, &b.Parallel}, {&c.Rates, &b.Rates}, {&c.SortSizes, &b.SortSizes}} {
		*lists[0] = union(*lists[0], *lists[1])
		slices.Sort(*lists[0])
	}
	for _, s := range before.Subjects {
		if !slices.ContainsFunc(r.Subjects, func(o Subject) bool { return o.Name() == s.Name() }) {
			r.Subjects = append(r.Subjects, s)
		}
	}
}

func union[T comparable](a, b []T) []T {
	for _, v := range b {
		if !slices.Contains(a, v) {
			a = append(a, v)
		}
	}
	return a
}

// Values are the samples of a subject's metric, in the order of measurement. An x
// below 0 means any.
func (r *Run) Values(suite string, s Subject, metric string, x float64) []float64 {
	var values []float64
	for _, v := range r.Samples {
		if v.Suite == suite && v.Runtime == s.Runtime && v.App == s.App && v.Metric == metric && (x < 0 || v.X == x) {
			values = append(values, v.Value)
		}
	}
	return values
}

// Summary finds the statistics of a metric; its N is 0 when there are none.
func (r *Run) Summary(suite string, s Subject, metric string, x float64) stats.Summary {
	for _, v := range r.Summaries {
		if v.Suite == suite && v.Runtime == s.Runtime && v.App == s.App && v.Metric == metric && v.X == x {
			return v.Summary
		}
	}
	return stats.Summary{}
}

// Xs are the values of X at which a metric of a subject was measured.
func (r *Run) Xs(suite string, s Subject, metric string) []float64 {
	var xs []float64
	for _, v := range r.Summaries {
		if v.Suite == suite && v.Runtime == s.Runtime && v.App == s.App && v.Metric == metric {
			xs = append(xs, v.X)
		}
	}
	slices.Sort(xs)
	return xs
}

// Fact is a fact about a subject; "" when it is not known.
func (r *Run) Fact(s Subject, name string) string {
	for _, f := range r.Facts {
		if f.Runtime == s.Runtime && f.App == s.App && f.Name == name {
			return f.Value
		}
	}
	return ""
}
