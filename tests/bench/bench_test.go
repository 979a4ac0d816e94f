// Package bench times vmm beside the least that a monitor can do, a C program
// with the same calls to KVM (floor.c), and beside QEMU's microvm, all with the
// same tiny kernel (guest.S) on this machine's /dev/kvm. The three take turns,
// so that what else the machine does hits them alike, and medians are reported.
package bench

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// memoryMiB is the guest's RAM: what QEMU's microvm has when not told.
const memoryMiB = 128

// exits is how many exits the guest of BenchmarkExit makes.
const exits = 20_000

// monitor is a way to start the kernel.
type monitor struct {
	name    string
	command func(kernel string) *exec.Cmd
}

// monitors are the contestants: the floor, vmm, and those that are there to
// compare.
func monitors(b *testing.B, floor string) []monitor {
	vmm := os.Getenv("VMM_BIN")
	if vmm == "" {
		b.Skip("VMM_BIN, the vmm binary, is not set: run make bench-start")
	}
	return []monitor{
		{"c", func(kernel string) *exec.Cmd { return exec.Command(floor, kernel, strconv.Itoa(memoryMiB)) }},
		{"vmm", func(kernel string) *exec.Cmd {
			return exec.Command(vmm, "boot", "--kernel", kernel, "--memory", strconv.Itoa(memoryMiB)+"M", "--debug-exit")
		}},
		{"qemu", func(kernel string) *exec.Cmd {
			return exec.Command("qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-cpu", "host,-arch-capabilities",
				"-m", strconv.Itoa(memoryMiB), "-nodefaults", "-no-user-config", "-display", "none",
				"-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", kernel)
		}},
		{"plain-c", func(kernel string) *exec.Cmd { return exec.Command(floor, kernel, strconv.Itoa(memoryMiB), "plain") }},
	}
}

// build compiles with gcc and returns the path of the result.
func build(b *testing.B, name string, args ...string) string {
	b.Helper()
	out := filepath.Join(b.TempDir(), name)
	if text, err := exec.Command("gcc", append(args, "-o", out)...).CombinedOutput(); err != nil {
		b.Fatalf("gcc: %v\n%s", err, text)
	}
	return out
}

func kernel(b *testing.B, exits int) string {
	return build(b, "kernel.elf", "-nostdlib", "-static", "-DEXITS="+strconv.Itoa(exits),
		"-Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack", "testdata/guest.S")
}

// run is one start: the time from before exec to the guest's first exit, a
// byte on the serial port that arrives here, and to the end of the process.
type run struct{ first, end time.Duration }

func (m monitor) run(b *testing.B, kernel string) run {
	b.Helper()
	cmd := m.command(kernel)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	var r run
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	_, err = io.ReadFull(out, make([]byte, 1))
	r.first = time.Since(start)
	if err != nil {
		b.Fatalf("%s: nothing on the serial port: %v\n%s", m.name, err, &stderr)
	}
	_, _ = io.Copy(io.Discard, out)
	err = cmd.Wait()
	r.end = time.Since(start)
	// The guest writes 0 to the debug-exit port, which makes the status 1.
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || stderr.Len() > 0 {
		b.Fatalf("%s: %v; want exit status 1\n%s", m.name, err, &stderr)
	}
	return r
}

// interleaved runs each monitor b.N times in turn, after one round that warms
// the page cache.
func interleaved(b *testing.B, monitors []monitor, kernel string) map[string][]run {
	b.Helper()
	runs := make(map[string][]run)
	for range b.N + 1 {
		for _, m := range monitors {
			runs[m.name] = append(runs[m.name], m.run(b, kernel))
		}
	}
	for name := range runs {
		runs[name] = runs[name][1:]
	}
	return runs
}

func median(runs []run, what func(run) time.Duration) time.Duration {
	values := make([]time.Duration, len(runs))
	for i, r := range runs {
		values[i] = what(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func first(r run) time.Duration { return r.first }
func end(r run) time.Duration   { return r.end }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkStart measures the start of a machine, and its end.
func BenchmarkStart(b *testing.B) {
	all := monitors(b, build(b, "floor", "-O2", "-static", "testdata/floor.c"))
	runs := interleaved(b, all, kernel(b, 0))
	save(b, "start.csv", runs)
	for _, m := range all {
		b.ReportMetric(ms(median(runs[m.name], first)), m.name+"-first-exit-ms")
		b.ReportMetric(ms(median(runs[m.name], end)), m.name+"-end-ms")
	}
	ratio := func(of, to string, what func(run) time.Duration) float64 {
		return float64(median(runs[of], what)) / float64(median(runs[to], what))
	}
	for _, m := range []string{"c", "plain-c", "qemu"} {
		b.ReportMetric(ratio("vmm", m, first), "vmm/"+m+"-first-exit")
		b.ReportMetric(ratio("vmm", m, end), "vmm/"+m+"-end")
	}
	b.ReportMetric(0, "ns/op") // the sum of different things
}

// BenchmarkExit measures what an exit costs, from guest to monitor and back: a
// write to a port that does nothing. It is the time of a guest that makes many,
// without what the same guest takes to start.
func BenchmarkExit(b *testing.B) {
	all := monitors(b, build(b, "floor", "-O2", "-static", "testdata/floor.c"))[:2]
	busy := interleaved(b, all, kernel(b, exits))
	idle := interleaved(b, all, kernel(b, 0))
	save(b, "exit.csv", busy)
	cost := make(map[string]float64)
	for _, m := range all {
		cost[m.name] = float64(median(busy[m.name], end)-median(idle[m.name], end)) / exits
		b.ReportMetric(cost[m.name], m.name+"-ns/exit")
	}
	b.ReportMetric(cost["vmm"]/cost["c"], "vmm/c")
	b.ReportMetric(0, "ns/op")
}

// save writes what was measured to the folder BENCH_OUT, if it is set.
func save(b *testing.B, name string, runs map[string][]run) {
	b.Helper()
	dir := os.Getenv("BENCH_OUT")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w := csv.NewWriter(f)
	rows := [][]string{{"round", "monitor", "first_exit_ms", "end_ms"}}
	for _, m := range []string{"c", "vmm", "qemu", "plain-c"} {
		for i, r := range runs[m] {
			rows = append(rows, []string{strconv.Itoa(i), m, fmt.Sprintf("%.3f", ms(r.first)), fmt.Sprintf("%.3f", ms(r.end))})
		}
	}
	if err := w.WriteAll(rows); err != nil {
		b.Fatal(err)
	}
}
