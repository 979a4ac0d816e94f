// Package ceiling tests that there is a limit to the host's memory that a guest can
// make vmm hold beside its RAM, with all devices and at once: docs/security.md.
package ceiling

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/devices/virtio"
	"vmm/devices/virtio/balloon"
	"vmm/devices/virtio/blk"
	"vmm/devices/virtio/console"
	virtionet "vmm/devices/virtio/net"
	"vmm/devices/virtio/p9"
	"vmm/devices/virtio/rng"
	"vmm/devices/virtio/virtiotest"
	"vmm/devices/virtio/vsock"
	"vmm/disk"
	"vmm/share"
	"vmm/share/ninep"
)

const mib = 1 << 20

// run runs a command.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// images are a raw image and a qcow2 image of clusters that are large and compressed.
func images(t *testing.T, dir string) (raw, cow string) {
	t.Helper()
	raw, cow = filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk.qcow2")
	if err := os.WriteFile(raw, bytes.Repeat([]byte("some data "), 16*mib/10/512*512), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(raw, 16*mib); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "convert", "-t", "unsafe", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd,cluster_size=2M", raw, cow)
	return raw, cow
}

// port is a network whose other end nobody reads.
type port struct{ fds []int }

func newPort(t *testing.T, pairs int) *port {
	p := new(port)
	for range pairs {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
		p.fds = append(p.fds, fds[0])
	}
	return p
}

func (p *port) FDs() []int           { return p.fds }
func (p *port) MTU() int             { return 1500 }
func (p *port) SetOffload(int) error { return nil }
func (p *port) SetQueues(int) error  { return nil }
func (p *port) Close() error         { return nil }

// flooded is a device and what its queues are flooded with.
type flooded struct {
	name   string
	device virtio.Device
	head   []byte // what the first piece of a chain holds
	piece  int    // bytes of each of the others
	most   int    // KiB that the device may take
}

// everyDevice returns one of each device, with as many queues as it can have, and
// disks of each kind.
func everyDevice(t *testing.T) []flooded {
	t.Helper()
	must := func(d virtio.Device, err error) virtio.Device {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	dir, err := os.MkdirTemp(".", "testdata-") // tmpfs has no O_DIRECT everywhere
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	raw, cow := images(t, dir)
	openDisk := func(c disk.Config, queues int) virtio.Device {
		image, err := disk.Open(c)
		if err != nil {
			t.Fatal(err)
		}
		return must(blk.New(blk.Config{Image: image, Close: image.Close, ReadOnly: true, Queues: queues}))
	}
	folder, err := share.Open(t.TempDir(), false, share.NewBudget())
	if err != nil {
		t.Fatal(err)
	}
	read := make([]byte, 16)
	return []flooded{
		{"disk", openDisk(disk.Config{Path: raw, ReadOnly: true, Direct: true}, 1), read, 512, 10 << 10},
		{"disk, 64 queues", openDisk(disk.Config{Path: raw, ReadOnly: true, Direct: true}, blk.MaxQueues), read, 512, 20 << 10},
		{"qcow2 disk", openDisk(disk.Config{Path: cow, ReadOnly: true, Format: disk.FormatQcow2}, 1), read, 512, 30 << 10},
		{"network", must(virtionet.New(virtionet.Config{Port: newPort(t, 16), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}})), nil, 1, 2 << 10},
		{"share", must(p9.New("tag", ninep.New(folder))), []byte{0xff, 0, 0, 0, 100, 1, 0}, 512, 12 << 10},
		{"vsock", must(vsock.New(vsock.Config{CID: 7, Path: filepath.Join(t.TempDir(), "v")})), make([]byte, 44), 64, 4 << 10},
		{"balloon", balloon.New(balloon.Config{Reporting: true}), make([]byte, 10), 64, 2 << 10},
		{"console", console.New(io.Discard), nil, 4096, 1 << 10},
		{"random numbers", rng.New(), nil, 64, 1 << 10},
	}
}

// reset resets a device, and waits until it has been: one with much to do takes its
// time.
func reset(d *virtiotest.Driver) {
	for d.Reset(); d.Status() != 0; time.Sleep(time.Millisecond) {
	}
}

// held is what Go's heap and stacks hold, in KiB, once the devices rest: while they
// work, what they have let go of since the collection would count too.
func held(t *testing.T) int {
	t.Helper()
	last := -1
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		runtime.GC() // what pools hold goes with the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		now := int(m.HeapAlloc+m.StackInuse) >> 10
		if now == last {
			return now
		}
		last = now
	}
	t.Fatal("the devices do not rest")
	return 0
}

// Every queue of every device is full of the longest chains, of pieces that are read
// and that are written, and is so again after a reset: each device alone, and then
// all together, hold no more than is said of them.
func TestEveryQueue(t *testing.T) {
	devices := everyDevice(t)
	drivers := make([]*virtiotest.Driver, len(devices))
	round := func(i, readable int) {
		d := drivers[i]
		d.SetUp(^virtio.Features(0))
		head := append(devices[i].head, make([]byte, max(0, 16-len(devices[i].head)))...)
		d.Flood(d.Out(head), d.In(devices[i].piece), d.In(1), readable)
	}
	for i, f := range devices {
		drivers[i] = virtiotest.NewLogged(t, f.device, slog.New(slog.DiscardHandler))
	}
	start := held(t)
	total := 0
	for i, f := range devices {
		before := held(t)
		most := 0
		for _, readable := range []int{1, 0, 64, 255, 256} {
			round(i, readable)
			most = max(most, held(t)-before)
			reset(drivers[i])
		}
		t.Logf("%s: %d KiB", f.name, most)
		if most > f.most {
			t.Errorf("%s holds %d KiB; at most %d", f.name, most, f.most)
		}
		total += f.most
	}
	for turn := range 4 {
		var group sync.WaitGroup
		for i := range devices {
			group.Go(func() {
				reset(drivers[i])
				round(i, []int{1, 64, 0, 2}[turn])
			})
		}
		group.Wait()
		took := held(t) - start
		t.Logf("all: %d KiB", took)
		if took > total {
			t.Errorf("all devices hold %d KiB; at most %d", took, total)
		}
	}
}

// beside is what a process holds beside the guest's RAM, in KiB: a mapping of that
// size.
func beside(pid int, ram int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, err
	}
	size, total := 0, 0
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		n, _ := strconv.Atoi(words[1])
		switch words[0] {
		case "Size:":
			size = n
		case "Rss:":
			if size != ram {
				total += n
			}
		}
	}
	return total, nil
}

// A guest that fills every queue of every device, over and over, in eight shapes.
func TestGuest(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		if os.Getenv("VMM_REQUIRE_KVM") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	const (
		ram    = 96 * 1024
		rounds = 8
		// Three disks and one each of all others: docs/security.md.
		most     = 96 << 10
		patience = 2 * time.Minute
	)
	dir, err := os.MkdirTemp(".", "testdata-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in := func(name string) string { return filepath.Join(dir, name) }
	raw, cow := images(t, dir)
	run(t, "cp", raw, in("other.img"))
	run(t, "gcc", "-m32", "-Os", "-ffreestanding", "-fno-pic", "-fno-pie", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
		"-c", "testdata/flood.c", "-o", in("flood.o"))
	run(t, "ld", "-m", "elf_i386", "--no-warn-rwx-segments", "-T", "testdata/flood.ld", "-o", in("flood.32"), in("flood.o"))
	run(t, "objcopy", "-O", "elf64-x86-64", in("flood.32"), in("flood"))
	run(t, "go", "build", "-o", dir+"/", "vmm/cmd/vmm", "vmm/cmd/vmm-tools")
	if err := os.Mkdir(in("share"), 0o700); err != nil {
		t.Fatal(err)
	}
	vmm := exec.Command(in("vmm"), "boot", "--kernel", in("flood"), "--boot-protocol", "pvh", "--transport", "mmio", "--memory", "96M",
		"--disk", "path="+raw+",cache=none", "--disk", "path="+cow+",format=qcow2,ro", "--disk", "path="+in("other.img")+",queues=16",
		"--net", "user", "--share", "path="+in("share")+",tag=x", "--vsock", "cid=7,uds="+filepath.Join(t.TempDir(), "v"),
		"--balloon", "free-page-reporting", "--console", "virtio", "--rng")
	var errors bytes.Buffer
	vmm.Stderr = &errors
	out, err := vmm.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := vmm.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan int, 1)
	go func() { // a digit a round; other devices write nonsense to the console, too
		seen := 0
		buf := make([]byte, 4096)
		for seen < rounds {
			n, err := out.Read(buf)
			for _, b := range buf[:n] {
				if b == byte('0'+seen%10) {
					seen++
				}
			}
			if err != nil {
				break
			}
		}
		ended <- seen
		_, _ = io.Copy(io.Discard, out)
	}()
	largest, seen := 0, 0
	for deadline := time.After(patience); seen == 0; {
		select {
		case seen = <-ended:
		case <-deadline:
			t.Error("the guest makes no headway")
			seen = -1
		case <-time.After(20 * time.Millisecond):
			n, err := beside(vmm.Process.Pid, ram)
			if err != nil {
				t.Error(err)
			}
			largest = max(largest, n)
		}
	}
	begin := time.Now()
	_ = vmm.Process.Signal(unix.SIGTERM)
	_ = vmm.Wait()
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the machine took %v to end", took)
	}
	if seen < rounds {
		t.Errorf("%d rounds, and then: %s", seen, &errors)
	}
	t.Logf("%d KiB beside RAM", largest)
	if largest == 0 || largest > most {
		t.Errorf("%d KiB beside RAM; at most %d", largest, most)
	}
}
