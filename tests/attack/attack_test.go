package attack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a guest of 64 MiB may cost, all devices together. docs/security.md has the
// sum of the bounds of each; no guest here reaches them all.
const (
	maxRSS     = 160 << 20 // bytes, with what the guest has touched of its own
	maxFiles   = 1300      // descriptors; vsock alone may have 1024 connections
	maxThreads = 200
	// Lines on standard error: of each kind 10, and one a second.
	maxLines       = 300
	maxLinesSecond = 20
	// endWithin is how long the end may take, as vmm measures it: on a busy machine
	// this test hears of the end later. After endTime vmm counts as one that hangs.
	endWithin = 2 * time.Second
	endTime   = 10 * time.Second
)

// world is what a guest has to do with on the host.
type world struct {
	dir, share string
	devices    []string // flags, one for each virtio device
}

// newWorld makes a disk, a folder and sockets.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	w.share = filepath.Join(w.dir, "share")
	if err := os.Mkdir(w.share, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, size := range map[string]int{"disk.img": 4 << 20, "ro.img": 1 << 20, "share/a": 1 << 20} {
		if err := os.WriteFile(filepath.Join(w.dir, path), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.devices = []string{
		"--disk=path=" + w.dir + "/disk.img,cache=none",
		"--disk=path=" + w.dir + "/ro.img,ro",
		"--net=user",
		"--balloon",
		"--console=virtio",
		"--vsock=cid=5,uds=" + w.dir + "/v",
		"--share=path=" + w.share + ",tag=x",
	}
	return w
}

// unharmed looks at the host after an attack: no file beside those that may be
// there, no set-user-ID program and no device among them.
func (w *world) unharmed(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(w.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if m := info.Mode(); m&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeDevice|fs.ModeCharDevice) != 0 && !m.IsDir() {
			t.Errorf("the guest has made %s: %v", path, m)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	ro, err := os.ReadFile(filepath.Join(w.dir, "ro.img"))
	if err != nil || strings.Trim(string(ro), "\x00") != "" {
		t.Errorf("a disk that is read-only has changed (%v)", err)
	}
	if all, _ := filepath.Glob(filepath.Dir(w.dir) + "/../[ds]evice*"); len(all) > 0 {
		t.Errorf("outside the share: %v", all)
	}
}

// attack is a guest with its world.
type attack struct {
	guest   string
	defines []string
	only    string   // the prefix of the only device's flag; "" for all
	args    []string // beside
	pci     bool     // over PCI only
	rounds  int      // that it must make at the least
	tables  func() []byte
	breaks  string // what is wrong with the queues of every device, for the one warning of each
}

var attacks = []attack{
	{guest: "spin"},
	{guest: "indirect", rounds: 2},
	{guest: "replay", rounds: 2, breaks: "more chains available than the queue has room for"},
	{guest: "flood", defines: []string{"-DLENGTH=4096", "-DKIND=0"}},
	{guest: "flood", defines: []string{"-DLENGTH=4096", "-DKIND=WRITE"}},
	{guest: "flood", defines: []string{"-DLENGTH=0xfffffff0", "-DKIND=0"}, breaks: "a buffer that is not RAM"},
	{guest: "random", rounds: 1},
	{guest: "ports", rounds: 1, args: []string{"-v"}},
	{guest: "bars", pci: true, rounds: 1},
	{guest: "p9", only: "--share", rounds: 1},
	{guest: "vsock", only: "--vsock", rounds: 1},
	{guest: "symbols", defines: []string{"-DTOKENS"}, only: "none", rounds: 1, tables: tokenTables, args: []string{"--profile=DIR/profile"}},
	{guest: "symbols", defines: []string{"-DTOKENS"}, only: "none", rounds: 1, tables: tokenTables, args: []string{"--timeline=DIR/timeline"}},
	{guest: "symbols", defines: []string{"-DNAMES"}, only: "none", rounds: 1, tables: longNames, args: []string{"--profile=DIR/profile"}},
	{guest: "symbols", defines: []string{"-DNAMES"}, only: "none", rounds: 1, tables: longNames, args: []string{"--timeline=DIR/timeline"}},
}

// tokenTables are 16 MiB of token tables with their indexes: a type's letter, and all
// other tokens of a byte.
func tokenTables() []byte {
	b := []byte{'x', 0}
	for i := 1; i < 256; i++ {
		b = append(b, byte(i), 0)
	}
	for i := range 256 {
		b = append(b, byte(2*i), byte(2*i>>8))
	}
	return bytes.Repeat(b, 16<<20/len(b))
}

// longNames are the tables of a kernel with 512 symbols, 2 MB: spelled, each of their
// names is 5.6 MB long, and all together 2.9 GB.
func longNames() []byte {
	const symbols, tokens, text = 512, 4000, 1400
	le := binary.LittleEndian
	b := le.AppendUint64(nil, symbols)
	start := len(b)
	var markers []byte
	for i := range symbols {
		if i%256 == 0 {
			markers = le.AppendUint32(markers, uint32(len(b)-start))
		}
		b = append(b, tokens&0x7f|0x80, tokens>>7, 'T')
		b = append(b, bytes.Repeat([]byte{255}, tokens-1)...)
	}
	align := func() { b = append(b, make([]byte, -len(b)&7)...) }
	align()
	b = append(b, markers...)
	align()
	start = len(b)
	var index []byte
	for i := range 256 {
		index = le.AppendUint16(index, uint16(len(b)-start))
		if b = append(b, byte(i)); i == 255 {
			b = append(b, strings.Repeat("x", text)...)
		}
		b = append(b, 0)
	}
	align()
	b = append(b, index...)
	align()
	for i := range symbols {
		b = le.AppendUint32(b, uint32(4096*i))
	}
	align()
	return append(le.AppendUint64(b, 0xffffffff81000000), make([]byte, 4096)...)
}

// run starts an attack, lets it go on for a while, and looks at what is left.
func (a attack) run(t *testing.T, transport string, length time.Duration, seed uint32) {
	t.Helper()
	w := newWorld(t)
	devices := w.devices
	rng := "--rng=true"
	if a.only != "" {
		rng, devices = "--rng=false", nil
		for _, d := range w.devices {
			if strings.HasPrefix(d, a.only) {
				devices = append(devices, d)
			}
		}
	}
	deaf(t, w.dir+"/v_52")
	if a.tables != nil {
		if err := os.WriteFile(w.dir+"/tables", a.tables(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := len(devices)
	if rng == "--rng=true" {
		n++
	}
	defines := append([]string{fmt.Sprintf("-DTABLES=%q", w.dir+"/tables"), "-D" + strings.ToUpper(transport), fmt.Sprintf("-DDEVICES=%d", n), fmt.Sprintf("-DSEED=%d", seed)}, a.defines...)
	args := []string{"--kernel", assemble(t, a.guest, defines...), "--boot-protocol", "pvh", "--memory", "64M", "--transport", transport, rng}
	args = append(args, devices...)
	for _, arg := range a.args {
		args = append(args, strings.ReplaceAll(arg, "DIR", w.dir))
	}
	m := start(t, args...)
	if a.tables != nil {
		m.await(t, "A")
		if out, err := m.command("inspect", "symbols", m.control); err == nil {
			t.Errorf("vmm inspect has found symbols: %.200q", out)
		}
	}
	select {
	case err := <-m.ended:
		// A guest may crash or end itself: random ones write where they run.
		m.ended <- err
	case <-time.After(length):
		_ = m.signal(syscall.SIGTERM)
	}
	status := m.end(t, endTime)
	took := time.Duration(m.report(t).EndSeconds * float64(time.Second))
	if took > endWithin {
		t.Errorf("vmm took %v to end; want %v at the most", took, endWithin)
	}

	out := m.stdout.String()
	rounds := strings.Count(out, ".")
	if !strings.HasPrefix(out, "A") || rounds < a.rounds {
		t.Errorf("the guest has said %.200q: it has not done what it should", out)
	}
	if a.guest == "p9" && strings.Contains(out, "!") {
		t.Errorf("the guest has said %.200q: a message was not answered", out)
	}
	if a.guest == "replay" && !strings.Contains(out, "R") {
		t.Errorf("the guest has said %.200q: no device asks for a reset", out)
	}
	if want := 128 + int(syscall.SIGTERM); status != want && !(a.guest == "random" && (status == 0 || status == 3)) {
		t.Errorf("status %d; want %d", status, want)
	}
	lines := m.lines()
	if a.breaks != "" {
		once(t, lines, n, a.breaks, length)
	}
	if most := maxLines + maxLinesSecond*int(length.Seconds()); len(lines) > most {
		t.Errorf("%d lines on standard error; want %d at the most", len(lines), most)
	}
	rss := maxRSS
	if raceEnabled {
		rss *= 4
	}
	if m.rss > rss || m.files > maxFiles || m.threads > maxThreads {
		t.Errorf("%d MiB of memory, %d descriptors, %d threads; want %d, %d and %d at the most",
			m.rss>>20, m.files, m.threads, rss>>20, maxFiles, maxThreads)
	}
	w.unharmed(t)
	t.Logf("%d rounds; %d MiB, %d descriptors, %d threads, %d lines; ended after %v", rounds, m.rss>>20, m.files, m.threads, len(lines), took.Round(time.Millisecond))
	if t.Failed() {
		t.Logf("standard error:\n%s", strings.Join(lines[:min(len(lines), 40)], "\n"))
	}
}

// once looks for the warning that a queue is broken: there is one for each device, and
// another after a minute at the earliest.
func once(t *testing.T, lines []string, devices int, what string, length time.Duration) {
	t.Helper()
	warned := map[string]int{}
	for _, l := range lines {
		if name, says, _ := strings.Cut(strings.TrimPrefix(l, "vmm: "), ": "); strings.HasPrefix(says, "the device stops") && strings.HasSuffix(says, what) {
			warned[name]++
		}
	}
	if len(warned) != devices {
		t.Errorf("%d devices have a warning that ends with %q; want all %d", len(warned), what, devices)
	}
	for name, n := range warned {
		if most := 1 + int(length/time.Minute); n > most {
			t.Errorf("%s has %d warnings; want %d at the most", name, n, most)
		}
	}
}

// Each hostile guest, over each transport, leaves vmm able to end and the host as it
// was.
func TestGuests(t *testing.T) {
	needKVM(t)
	length := 2 * time.Second
	if d := duration(t); d > 0 {
		length = max(length, d/time.Duration(4*len(attacks)))
	}
	seed := rand.Uint32() | 1
	t.Logf("seed %d", seed)
	for _, a := range attacks {
		for _, transport := range []string{"mmio", "pci"} {
			if a.pci && transport != "pci" {
				continue
			}
			name := strings.Join(append([]string{a.guest}, a.defines...), "")
			t.Run(name+"/"+transport, func(t *testing.T) {
				t.Parallel()
				a.run(t, transport, length, seed)
			})
		}
	}
}

// Random guests, each with a seed of its own, for as long as "make attack" says.
func TestRandomGuests(t *testing.T) {
	needKVM(t)
	d := duration(t)
	if d == 0 {
		t.Skip("long: VMM_ATTACK says how long; see make attack")
	}
	for end := time.Now().Add(d / 4); time.Now().Before(end); {
		seed := rand.Uint32() | 1
		for _, transport := range []string{"mmio", "pci"} {
			t.Run(fmt.Sprintf("%s/seed-%d", transport, seed), func(t *testing.T) {
				attack{guest: "random", rounds: 1}.run(t, transport, 5*time.Second, seed)
			})
		}
	}
}
