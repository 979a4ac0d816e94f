package system

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// footprint is what a vmm and its guest hold in memory, in KiB: of the guest's
// RAM, and beside it.
type footprint struct {
	ram, beside use
	mappings    string // beside RAM, the largest first
}

// use of memory. In pss, a page that n processes share counts as an n-th.
type use struct{ rss, pss uint64 }

// The machine is one with -v: its log says where RAM is.
func (v *vm) footprint() (f footprint) {
	v.t.Helper()
	log := v.err.textFrom(0)
	var start, size uint64
	if _, err := fmt.Sscanf(regexp.MustCompile(`msg=RAM .*`).FindString(log), "msg=RAM guest=0 host=%d size=%d", &start, &size); err != nil {
		v.t.Fatalf("%v; log:\n%s", err, log)
	}
	mappings, err := resident(v.cmd.Process.Pid)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, m := range mappings {
		sum := &f.beside
		if m.start >= start && m.start < start+size {
			sum = &f.ram
		} else {
			f.mappings += fmt.Sprintf("%6d KiB of %6d  %s\n", m.rss, m.size, m.name)
		}
		sum.rss += m.rss
		sum.pss += m.pss
	}
	return f
}

// settled is when a guest has started, and vmm has given back what only that
// took.
const settled = 8 * time.Second

// What machines take that are the same, with a disk and a network each, while
// their inits wait: beside the guest's RAM, alone and in company, and what each
// further one takes with and without --share-kernel. VMM_SOAK says how many.
func TestMemory(t *testing.T) {
	n := 10
	if soak := os.Getenv("VMM_SOAK"); soak != "" {
		n, _ = strconv.Atoi(soak)
	}
	ns := newNamespace(t)
	for i := range n {
		ns.ip(t, "tuntap", "add", fmt.Sprint("tap", i), "mode", "tap", "vnet_hdr")
	}
	for _, kernel := range []struct{ name, dir string }{{"tiny", env(t, "VMM_GUEST_TINY")}, {"Debian", env(t, "VMM_KERNEL_NEW")}} {
		t.Run(kernel.name, func(t *testing.T) {
			further := map[string]float64{} // KiB, by how
			for _, how := range []string{"--thp=host", "--thp=off", "--share-kernel"} {
				dir := t.TempDir()
				start := func(i int) *vm {
					return launch(t, ns.words(), "--kernel", kernel.dir+"/vmlinuz", "--initrd", env(t, "VMM_INITRD_TINY"), "-v", "--memory", "128M",
						"--disk", "path="+image(t, dir, fmt.Sprint("disk", i), 16*mib), "--net", fmt.Sprint("tap=tap", i),
						how, "--append", "quiet -- serial hold")
				}
				all := []*vm{start(0)}
				all[0].await("!", 0, shTimeout)
				time.Sleep(settled)
				alone := all[0].footprint()
				for i := 1; i < n; i++ {
					v := start(i)
					v.await("!", 0, shTimeout)
					all = append(all, v)
				}
				time.Sleep(settled)
				var sum, beside uint64
				for _, v := range all {
					f := v.footprint()
					sum += f.ram.pss + f.beside.pss
					beside += f.beside.pss
				}
				for _, v := range all {
					v.kill()
				}
				beside /= uint64(n)
				further[how] = float64(sum-alone.ram.pss-alone.beside.pss) / float64(n-1)
				t.Logf("%s: alone %d KiB of RAM and %d (PSS %d) beside it; of %d, %d beside each, and %.0f for each further one in all",
					how, alone.ram.rss, alone.beside.rss, alone.beside.pss, n, beside, further[how])
				t.Logf("beside RAM:\n%s", alone.mappings)
				if alone.beside.rss > 5<<10 || beside > 4<<10 {
					t.Errorf("%d KiB beside guest RAM alone, PSS of %d in company; want at most 5 and 4 MiB\n%s", alone.beside.rss, beside, alone.mappings)
				}
			}
			for _, without := range []string{"--thp=host", "--thp=off"} {
				ratio := further["--share-kernel"] / further[without]
				t.Logf("with --share-kernel, each further machine takes %.2f of what it does with %s", ratio, without)
				// Of Debian's kernel, more is patched and relocated, and so each one's own.
				if without == "--thp=host" && kernel.name == "tiny" && ratio > 0.6 {
					t.Errorf("with --share-kernel, each further machine takes %.2f of what it does without; want at most 0.6", ratio)
				}
			}
		})
	}
}
