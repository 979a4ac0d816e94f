package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmm/boot"
)

// passed is what the guests of testdata/guests write to the debug-exit port.
const passed = 0x10

// buildGuest assembles a guest of testdata/guests.
func buildGuest(t testing.TB, name string) string {
	t.Helper()
	object, kernel := filepath.Join(t.TempDir(), "guest.o"), filepath.Join(t.TempDir(), name)
	for _, args := range [][]string{
		{"gcc", "-m32", "-c", "-o", object, name + ".S"},
		{"ld", "-m", "elf_i386", "-T", "guest.ld", "-o", kernel, object},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = "testdata/guests"
		out, err := cmd.CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) && os.Getenv("VMM_REQUIRE_KVM") == "" {
			t.Skip(err)
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return kernel
}

// runGuest runs a machine to the guest's verdict.
func runGuest(t testing.TB, m *Machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	o, err := m.Run(ctx)
	if err != nil || o.Kind != DebugExit || o.Value != passed {
		t.Errorf("Run = %+v, %v; want debug exit %#x; last: %+v", o, err, passed, m.Last())
	}
}

// Guests that do what kernels do that others wrote.
func TestGuests(t *testing.T) {
	both := []boot.Protocol{boot.PVH, boot.Multiboot}
	for _, tt := range []struct {
		name      string
		protocols []boot.Protocol
	}{{"timer", both}, {"pic", both}, {"low", both}} {
		kernel := buildGuest(t, tt.name)
		for _, p := range tt.protocols {
			t.Run(fmt.Sprintf("%s, %v", tt.name, p), func(t *testing.T) {
				m := newMachine(t, nil, func(c *Config) { c.Kernel, c.Protocol, c.DebugExit = kernel, p, true })
				runGuest(t, m)
			})
		}
	}
}

// The MP table has each processor of the machine, and is found on any transport.
func TestGuestReadsMPTable(t *testing.T) {
	kernel := buildGuest(t, "mptable")
	for _, cpus := range []int{1, 2, 7} {
		m := newMachine(t, nil, func(c *Config) {
			c.Kernel, c.Protocol, c.DebugExit, c.CPUs, c.RNG = kernel, boot.PVH, true, cpus, true
			c.Append = fmt.Sprintf("cpus=%d", cpus)
		})
		runGuest(t, m)
	}
}

// A guest that leaves the modem control register 0 hears what is typed.
func TestGuestHearsWithoutOUT2(t *testing.T) {
	var out bytes.Buffer
	ready := make(chan struct{})
	m := newMachine(t, nil, func(c *Config) {
		c.Kernel, c.DebugExit = buildGuest(t, "serial"), true
		c.Console = writerFunc(func(p []byte) (int, error) {
			if out.Len() == 0 {
				close(ready)
			}
			return out.Write(p)
		})
	})
	go func() {
		<-ready
		for input := []byte("hello."); len(input) > 0; {
			if input = input[m.Console().Receive(input):]; len(input) > 0 {
				<-m.Console().Ready()
			}
		}
	}()
	runGuest(t, m)
	if got := out.String(); got != "Rhello." {
		t.Errorf("the guest wrote %q; want what it was sent, behind R", got)
	}
}

// writerFunc is a function as an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
