package unikernel

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vmm/doctor"
	"vmm/tests/rest"
)

// each runs a test under each of the monitors.
func each(t *testing.T, test func(t *testing.T, m monitor)) {
	for _, m := range monitors {
		t.Run(m.name, func(t *testing.T) { test(t, m) })
	}
}

func TestSize(t *testing.T) {
	info, err := os.Stat(build(t, "unikernel/build"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 300<<10 {
		t.Errorf("the image has %d bytes; want at most 300 KiB", info.Size())
	}
}

// It answers as the programs do.
func TestConform(t *testing.T) {
	each(t, func(t *testing.T, m monitor) {
		addTap(t)
		g := m.start(t, 16, tap, ownAddress)
		g.expect(listening + guestIP + " port 8080")
		load := rest.Full
		if m.slow() {
			load = rest.Light
		}
		rest.Conform(t, service, load)
		select {
		case <-g.ended:
			t.Errorf("the guest ended: %v", g.err)
		default:
		}
	})
}

// It needs little memory: less than the firmware of QEMU's larger machines.
func TestMemory(t *testing.T) {
	for _, m := range monitors[:3] {
		t.Run(m.name, func(t *testing.T) {
			g := m.start(t, 2, user, "")
			g.expect(listening)
			if err := reach(forwarded); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	tests := []struct {
		words, says string
		wrong       bool
	}{
		{"ip=10.0.2.77::10.0.2.2:255.255.255.0", listening + "10.0.2.77 port", false},
		{"x ip=10.0.2.78", listening + "10.0.2.78 port", false},
		{"ip=dhcp", listening + "10.0.2.15 port", false},
		{"ip=10.0.2", "panic: the command line's ip= is not", true},
		{"ip=10.0.2.300", "panic: the command line's ip= is not", true},
		{"ip=", "panic: the command line's ip= is not", true},
	}
	m := monitors[2]
	for _, tt := range tests {
		t.Run(tt.words, func(t *testing.T) {
			g := m.start(t, 16, user, tt.words)
			g.expect(tt.says)
			if tt.wrong {
				_ = g.end()
			}
		})
	}
}

// The monitor's end says how the guest ended: switched off, or with an error.
func TestEnd(t *testing.T) {
	each(t, func(t *testing.T, m monitor) {
		g := m.start(t, 16, user, "")
		g.expect(listening)
		// What comes before, and is no such wish, does nothing.
		fmt.Fprintf(g.input, "help\n\npoweroff now, please, and quickly\rpoweroff\n")
		if err := g.end(); err != nil {
			t.Errorf("after poweroff: %v", err)
		}
		if strings.HasPrefix(m.name, "vmm") {
			expectOutcome(t, g, "power-off")
		}
	})
	t.Run("crash", func(t *testing.T) {
		g := monitors[0].start(t, 16, user, "ip=wrong")
		g.expect("panic: ")
		if err := g.end(); err == nil {
			t.Error("after a panic the status is 0")
		}
		expectOutcome(t, g, "crash")
	})
}

// slow reports whether the guest's instructions are interpreted, a thousand times
// slower than a processor is: as some hosts' KVM does in the guest's kernel mode.
func (m monitor) slow() bool {
	return strings.HasPrefix(m.name, "vmm") && !doctor.Run().KernelModeNative
}

// report is what vmm says about a run.
type report struct {
	Outcome string `json:"outcome"`
	Exits   uint64 `json:"exits"`
}

func expectOutcome(t *testing.T, g *guest, want string) {
	t.Helper()
	var r report
	text := strings.TrimSpace(g.stderr.String())
	if err := json.Unmarshal([]byte(text[strings.LastIndexByte(text, '\n')+1:]), &r); err != nil {
		t.Errorf("the report is not JSON: %v", err)
	}
	if r.Outcome != want {
		t.Errorf("outcome %q; want %q", r.Outcome, want)
	}
}

func TestQuiet(t *testing.T) {
	addTap(t)
	g := monitors[2].start(t, 16, tap, ownAddress+" quiet")
	for start := time.Now(); reach(service) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("the service is not there")
		}
	}
	if text := g.console.String(); text != "" {
		t.Errorf("it says %q", text)
	}
}

// Without a card it says what is wrong.
func TestNoCard(t *testing.T) {
	g := monitor{"vmm", vmm("mmio", "")}.start(t, 16, user, "")
	g.expect("panic: no virtio network card")
}

// With nothing to do it sleeps: a second takes some ten milliseconds of processor
// time at the most.
func TestIdle(t *testing.T) {
	each(t, func(t *testing.T, m monitor) {
		g := m.start(t, 16, user, "")
		g.expect(listening)
		if err := reach(forwarded); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // connections end, the monitor settles
		const seconds = 3
		before := processorTime(t, g.cmd.Process.Pid)
		time.Sleep(seconds * time.Second)
		used := (processorTime(t, g.cmd.Process.Pid) - before) / seconds
		t.Logf("%v of processor time a second", used)
		if used > 50*time.Millisecond {
			t.Errorf("%v of processor time a second; want at most 50 ms", used)
		}
	})
}

// processorTime is what a process has used. proc(5), /proc/pid/stat.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // a tick of USER_HZ
}
