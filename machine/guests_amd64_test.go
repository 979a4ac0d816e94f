package machine

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/binary"
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

// buildGuest builds a guest of testdata/guests. Where there is no compiler, VMM_GUESTS
// may name a folder with those that were built elsewhere.
func buildGuest(t testing.TB, source string) string {
	t.Helper()
	if dir := os.Getenv("VMM_GUESTS"); dir != "" {
		return filepath.Join(dir, strings.TrimSuffix(source, filepath.Ext(source)))
	}
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("VMM_REQUIRE_KVM") == "" {
		t.Skip(err)
	}
	kernel := filepath.Join(t.TempDir(), "guest")
	if out, err := exec.Command("testdata/guests/build", "testdata/guests/"+source, kernel).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", source, err, out)
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
		kernel := buildGuest(t, tt.name+".S")
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
	kernel := buildGuest(t, "mptable.S")
	for _, transport := range []Transport{TransportPCI, TransportMMIO} {
		for _, cpus := range []int{1, 2, 7} {
			words := fmt.Sprintf("{virtio_mmio} cpus=%d", cpus)
			m := newMachine(t, nil, func(c *Config) {
				c.Kernel, c.Protocol, c.DebugExit, c.CPUs, c.RNG = kernel, boot.PVH, true, cpus, true
				c.Transport, c.Cmdline = transport, &words
			})
			runGuest(t, m)
		}
	}
}

// A guest that leaves the modem control register 0 hears what is typed.
func TestGuestHearsWithoutOUT2(t *testing.T) {
	var out bytes.Buffer
	ready := make(chan struct{})
	m := newMachine(t, nil, func(c *Config) {
		c.Kernel, c.DebugExit = buildGuest(t, "serial.S"), true
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

// A driver that accepts nothing, or everything, and does not look at what becomes of
// it, has a device that works; 64-bit stores set its queue, and its registers may be
// above 4 GiB. The kernel is mapped to itself and has no PVH entry, as Unikraft's.
func TestGuestDrivesVirtio(t *testing.T) {
	kernel := buildGuest(t, "virtio.c")
	for _, tt := range []struct {
		transport Transport
		words     string
		warning   string
	}{
		{TransportMMIO, "none", "does not accept VERSION_1"},
		{TransportMMIO, "all", "features that were not offered"},
		{TransportPCI, "none", "does not accept VERSION_1"},
		{TransportPCI, "all", "features that were not offered"},
		{TransportPCI, "all high", "features that were not offered"},
	} {
		t.Run(fmt.Sprintf("%s %s", tt.transport, tt.words), func(t *testing.T) {
			m := newMachine(t, nil, func(c *Config) {
				c.Kernel, c.DebugExit, c.RNG, c.Transport, c.Cmdline = kernel, true, true, tt.transport, &tt.words
			})
			runGuest(t, m)
			if w := m.Last().Warnings; len(w) != 1 || !strings.Contains(w[0], tt.warning) || !strings.Contains(w[0], "virtio-rng0") {
				t.Errorf("warnings %q; want one with %q, of virtio-rng0", w, tt.warning)
			}
		})
	}
}

// The same kernel in files as others make them: with an empty segment that lies behind
// the file's end, as Unikraft's, and compressed as a whole, as Xen's. Each by itself,
// and by the protocol that is named.
func TestGuestShapes(t *testing.T) {
	plain, err := os.ReadFile(buildGuest(t, "virtio.c"))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(plain)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, image := range map[string][]byte{
		"an empty segment behind the end": withEmptySegment(t, plain), "gzip": packed.Bytes(),
	} {
		for _, p := range []boot.Protocol{boot.Auto, boot.Linux64} {
			for _, transport := range []Transport{TransportPCI, TransportMMIO} {
				t.Run(fmt.Sprintf("%s, %v, %s", name, p, transport), func(t *testing.T) {
					kernel := filepath.Join(t.TempDir(), "guest")
					if err := os.WriteFile(kernel, image, 0o600); err != nil {
						t.Fatal(err)
					}
					words := "all"
					m := newMachine(t, nil, func(c *Config) {
						c.Kernel, c.Protocol, c.DebugExit, c.RNG, c.Transport, c.Cmdline = kernel, p, true, true, transport, &words
					})
					runGuest(t, m)
				})
			}
		}
	}
}

// withEmptySegment is a 64-bit ELF file whose segment for the stack's rights has
// become one for thread-local data, of which there are none.
func withEmptySegment(t *testing.T, file []byte) []byte {
	t.Helper()
	le := binary.LittleEndian
	file = bytes.Clone(file)
	for at, i := le.Uint64(file[32:]), uint16(0); i < le.Uint16(file[56:]); i++ {
		if header := file[at+56*uint64(i):]; elf.ProgType(le.Uint32(header)) == elf.PT_GNU_STACK {
			le.PutUint32(header, uint32(elf.PT_TLS))
			le.PutUint64(header[8:], 1<<40) // offset in the file
			return file
		}
	}
	t.Fatal("the guest's file has no segment for the stack's rights")
	return nil
}

// writerFunc is a function as an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
