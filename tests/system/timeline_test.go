package system

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"vmm/boot/kallsyms"
	"vmm/timeline"
)

// Every kernel that is entered in whatever way has a timeline with all phases,
// in order, and the names of its initcalls; and what the guest says itself, as
// to Cloud Hypervisor and Firecracker, is on it.
func TestTimeline(t *testing.T) {
	old, oldInitrd := env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD")
	latest, latestInitrd := env(t, "VMM_KERNEL_NEW")+"/vmlinuz", env(t, "VMM_INITRD_NEW")
	tests := []struct {
		name           string
		kernel, initrd string
		flags          []string
		unpacks        bool
	}{
		{"6.1 unpacked by vmm", old, oldInitrd, nil, false},
		{"6.1 unpacks itself", old, oldInitrd, []string{"--boot-protocol", "linux64"}, true},
		{"6.1 vmlinux, PVH", vmlinux(t, old), oldInitrd, []string{"--boot-protocol", "pvh"}, false},
		{"6.12 unpacked by vmm, 2 CPUs", latest, latestInitrd, []string{"--cpus", "2"}, false},
		{"6.12 unpacks itself", latest, latestInitrd, []string{"--boot-protocol", "linux32"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "boot.json")
			flags := append([]string{"--timeline", file, "--boot-timer", "--ready", "marker:0x41"}, tt.flags...)
			r := run(t, 0, nil, guest(tt.kernel, tt.initrd, "markers:0x41", flags...)...)
			if r.report.Outcome != "power-off" {
				t.Errorf("outcome %q; want power-off\n%s", r.report.Outcome, tail(r.out))
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			d, err := timeline.Read(f)
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if _, err := d.WriteText(&text, 5); err != nil {
				t.Fatal(err)
			}
			t.Logf("\n%s", &text)

			want := []timeline.Phase{timeline.Exec, timeline.VMMReady, timeline.KernelLoaded, timeline.Entered, timeline.Unpacked,
				timeline.StartKernel, timeline.InitcallsDone, timeline.RunInit, timeline.InitMarker, timeline.BootTimer, timeline.Ready}
			if !tt.unpacks {
				want = append(want[:4:4], want[5:]...)
			}
			var at int64
			found := map[timeline.Phase]timeline.PhaseAt{}
			for _, p := range d.Phases {
				found[p.Name] = p
			}
			for _, name := range want {
				p, ok := found[name]
				if !ok {
					t.Errorf("no phase %q", name)
					continue
				}
				if name == timeline.Ready { // by the same write as init's first
					at = found[timeline.InitMarker].NS
				}
				if p.NS < at {
					t.Errorf("%q at %d ns, before the phase in front of it, at %d", name, p.NS, at)
				}
				if at = p.NS; p.Source == timeline.FromConsole {
					t.Errorf("%q is known from the console only", name)
				}
			}
			if last := float64(at) / 1e9; last > r.report.Seconds {
				t.Errorf("the last phase is at %v s, after the end at %v s", last, r.report.Seconds)
			}
			checkInitcalls(t, d, found)
			if d.Stops < 2*len(d.Initcalls) || d.CostNS <= 0 {
				t.Errorf("%d stops and %d ns; want two stops an initcall", d.Stops, d.CostNS)
			}
		})
	}
}

// checkInitcalls looks for initcalls that every Linux has, one after the other
// between start_kernel and init.
func checkInitcalls(t *testing.T, d timeline.Data, found map[timeline.Phase]timeline.PhaseAt) {
	t.Helper()
	names := map[string]bool{}
	at := found[timeline.StartKernel].NS
	for _, c := range d.Initcalls {
		names[c.Name] = true
		if c.NS < at || c.TookNS < 0 {
			t.Errorf("initcall %+v begins before the one in front of it ends, at %d", c, at)
		}
		at = c.NS + c.TookNS
	}
	if end := found[timeline.InitcallsDone].NS; at > end {
		t.Errorf("the last initcall ends at %d, after all of them, at %d", at, end)
	}
	for _, name := range []string{"acpi_init", "pci_subsys_init", "inet_init", "populate_rootfs", "kobject_uevent_init"} {
		if !names[name] {
			t.Errorf("no initcall %s", name)
		}
	}
	if names["unknown"] || len(d.Initcalls) < 300 {
		t.Errorf("%d initcalls, without a name: %v; want 300 at least, with names", len(d.Initcalls), names["unknown"])
	}
}

// The symbols that are read out of a kernel's image are those that the kernel
// itself shows: all of them, compared by their hash.
func TestKallsyms(t *testing.T) {
	for _, v := range []string{"", "_NEW"} {
		kernel, initrd := env(t, "VMM_KERNEL"+v)+"/vmlinuz", env(t, "VMM_INITRD"+v)
		r := run(t, 0, nil, guest(kernel, initrd, "kallsyms", "--kaslr", "off")...)

		exe, err := elf.Open(vmlinux(t, kernel))
		if err != nil {
			t.Fatal(err)
		}
		defer exe.Close()
		text := exe.Progs[0]
		image := make([]byte, text.Filesz)
		if _, err := text.ReadAt(image, 0); err != nil {
			t.Fatal(err)
		}
		symbols, err := kallsyms.Find(t.Context(), image, text.Vaddr)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		for s := range symbols.All() {
			fmt.Fprintf(sum, "%016x %c %s\n", s.Addr, s.Type, s.Name)
		}
		if n := line(r.out, "symbols"); n != strconv.Itoa(symbols.Len()) {
			t.Errorf("%s: the kernel has %s symbols, and %d are found in it", kernel, n, symbols.Len())
		}
		if got, want := fmt.Sprintf("%x", sum.Sum(nil)), line(r.out, "sha256"); got != want {
			t.Errorf("%s: the symbols have the hash %s, and the kernel's own %s", kernel, got, want)
		}
	}
}

// A profile of a kernel at random addresses has the names of its functions.
func TestProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "boot.folded")
	run(t, 0, nil, guest(env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD"), "info", "--profile", file, "--profile-rate", "50", "--boot-protocol", "linux64")...)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for l := range strings.Lines(string(text)) {
		if strings.HasPrefix(l, "vcpu 0;kernel;") && !strings.Contains(l, ";0x") {
			named++
		}
	}
	if named < 5 {
		t.Errorf("%d functions have names; want more:\n%s", named, tail(string(text)))
	}
}
