package bench

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkLoad measures what a kernel adds to the start: the time from before exec
// until vmm lets the guest run, as it says with -v, for an ELF file of a few
// instructions and for the kernel and initrd that VMM_KERNEL_FILE and
// VMM_INITRD_FILE name, loaded in each way. All take turns.
func BenchmarkLoad(b *testing.B) {
	vmm, file := os.Getenv("VMM_BIN"), os.Getenv("VMM_KERNEL_FILE")
	if vmm == "" || file == "" {
		b.Skip("VMM_BIN and VMM_KERNEL_FILE are not set: run make bench-load KERNEL=FILE")
	}
	linux := []string{"--kernel", file}
	if initrd := os.Getenv("VMM_INITRD_FILE"); initrd != "" {
		linux = append(linux, "--initrd", initrd)
	}
	with := func(flags ...string) []string { return append(linux[:len(linux):len(linux)], flags...) }
	ways := []struct {
		name  string
		flags []string
	}{
		{"elf", []string{"--kernel", kernel(b, 0)}},
		{"linux64", with("--boot-protocol", "linux64")},
		{"direct", with()},
		{"direct-thp", with("--thp")},
		{"direct-no-kaslr", with("--kaslr", "off")},
		{"direct-no-cache", with("--no-cache")},
		{"share", with("--share-kernel")},
		{"share-no-kaslr", with("--share-kernel", "--kaslr", "off")},
		{"prefault", with("--prefault")},
	}
	// Somebody to share with, for as long as this takes.
	for _, flags := range [][]string{with("--share-kernel", "--kaslr", "off")} {
		cmd, _ := untilRunning(b, vmm, flags)
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	times := make(map[string][]run)
	for range b.N + 1 {
		for _, w := range ways {
			cmd, took := untilRunning(b, vmm, w.flags)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			times[w.name] = append(times[w.name], run{first: took})
		}
	}
	for _, w := range ways {
		times[w.name] = times[w.name][1:] // the first fills caches
		b.ReportMetric(ms(median(times[w.name], first)), w.name+"-ms")
	}
	b.ReportMetric(ms(median(times["direct"], first))/ms(median(times["elf"], first)), "direct/elf")
	b.ReportMetric(0, "ns/op")
	dir := os.Getenv("BENCH_OUT")
	if dir == "" {
		return
	}
	f, err := os.Create(filepath.Join(dir, "load.csv"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w := csv.NewWriter(f)
	rows := [][]string{{"round", "way", "running_ms"}}
	for _, way := range ways {
		for i, r := range times[way.name] {
			rows = append(rows, []string{strconv.Itoa(i), way.name, fmt.Sprintf("%.3f", ms(r.first))})
		}
	}
	if err := w.WriteAll(rows); err != nil {
		b.Fatal(err)
	}
}

// untilRunning starts vmm and waits until it says that the guest runs.
func untilRunning(b *testing.B, vmm string, flags []string) (*exec.Cmd, time.Duration) {
	b.Helper()
	cmd := exec.Command(vmm, append([]string{"boot", "-v", "--memory", strconv.Itoa(memoryMiB) + "M"}, flags...)...)
	out, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), "msg=running") {
			took := time.Since(start)
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return cmd, took
		}
	}
	b.Fatalf("vmm %v: ended without running", cmd.Args)
	return nil, 0
}
