package timeline

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv("TIMELINE_EXEC_TIME") != "" {
		ago := time.Since(ExecTime())
		fmt.Println(monotonic() - ago.Nanoseconds())
		return
	}
	os.Exit(m.Run())
}

// monotonic is CLOCK_MONOTONIC, which all processes share.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

// BenchmarkExecTime measures by how much ExecTime is later than the moment at
// which the parent process, this one, asked for the new one: the time of the
// fork is in it, and what the new process waited.
func BenchmarkExecTime(b *testing.B) {
	var late []float64
	for b.Loop() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TIMELINE_EXEC_TIME=1")
		asked := monotonic()
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		at, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		late = append(late, float64(at-asked)/1e3)
	}
	slices.Sort(late)
	b.ReportMetric(late[len(late)/2], "median-µs-late")
	b.ReportMetric(late[0], "min-µs-late")
	b.ReportMetric(late[len(late)-1], "max-µs-late")
}
