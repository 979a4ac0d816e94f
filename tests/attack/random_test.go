package attack

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
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

// port is a network card's wire whose other end answers every frame with itself.
type port struct{ fd, far int }

func newPort(t *testing.T) *port {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &port{fds[0], fds[1]}
	var done sync.WaitGroup
	done.Go(func() {
		b := make([]byte, 1<<17)
		for {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.far), Events: unix.POLLIN}}, -1)
			n, err := unix.Read(p.far, b)
			if n == 0 || err != nil && err != unix.EAGAIN {
				return
			}
			if err == nil {
				_, _ = unix.Write(p.far, b[:n])
			}
		}
	})
	t.Cleanup(func() {
		done.Wait() // the device has closed its end
		unix.Close(p.far)
	})
	return p
}

func (p *port) FDs() []int           { return []int{p.fd} }
func (p *port) MTU() int             { return 1500 }
func (p *port) SetOffload(int) error { return nil }
func (p *port) SetQueues(int) error  { return nil }
func (p *port) Close() error         { return unix.Close(p.fd) }

// devices make one of each kind, with a small world of its own.
var devices = map[string]func(t *testing.T) (virtio.Device, error){
	"disk":  func(t *testing.T) (virtio.Device, error) { return newDisk(t, disk.Config{}) },
	"uring": func(t *testing.T) (virtio.Device, error) { return newDisk(t, disk.Config{Direct: true}) },
	"net": func(t *testing.T) (virtio.Device, error) {
		return virtionet.New(virtionet.Config{MAC: []byte{2, 0, 0, 0, 0, 1}, Port: newPort(t)})
	},
	"9p": func(t *testing.T) (virtio.Device, error) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a"), make([]byte, 1<<16), 0o600); err != nil {
			return nil, err
		}
		folder, err := share.Open(dir, false, share.NewBudget())
		if err != nil {
			return nil, err
		}
		return p9.New("x", ninep.New(folder))
	},
	"vsock": func(t *testing.T) (virtio.Device, error) {
		path := filepath.Join(t.TempDir(), "v")
		d, err := vsock.New(vsock.Config{CID: 5, Path: path})
		if err == nil {
			deaf(t, path+"_1")
		}
		return d, err
	},
	"console": func(*testing.T) (virtio.Device, error) { return console.New(io.Discard), nil },
	"balloon": func(*testing.T) (virtio.Device, error) {
		return balloon.New(balloon.Config{Reporting: true, Size: 1 << 20}), nil
	},
	"rng": func(*testing.T) (virtio.Device, error) { return rng.New(), nil },
}

func newDisk(t *testing.T, c disk.Config) (virtio.Device, error) {
	t.Helper()
	c.Path = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(c.Path, make([]byte, 1<<20), 0o600); err != nil {
		return nil, err
	}
	image, err := disk.Open(c)
	if err != nil {
		return nil, err
	}
	return blk.New(blk.Config{Image: image, Close: image.Close, Queues: 2})
}

// rest is what the process has when nothing goes on.
type rest struct{ files, goroutines, rss int }

func atRest(t *testing.T) rest {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages int
	if fields := strings.Fields(string(text)); len(fields) > 1 {
		for _, c := range fields[1] {
			pages = 10*pages + int(c-'0')
		}
	}
	return rest{len(files), runtime.NumGoroutine(), pages * os.Getpagesize()}
}

// TestRandomDrivers has drivers do random things to each device, over each
// transport, from two processors at once: rings with sense and without, registers in
// any order, resets in the middle. After each round the device is gone with all that
// it had of the host.
func TestRandomDrivers(t *testing.T) {
	length := 8 * time.Second
	if d := duration(t); d > 0 {
		length = d / 2
	}
	end := time.Now().Add(length)
	begin := atRest(t)
	rounds := 0
	for ; time.Now().Before(end); rounds++ {
		for name, device := range devices {
			for _, transport := range []string{"mmio", "pci"} {
				seed := rand.Uint64()
				t.Run(name+"/"+transport, func(t *testing.T) {
					defer func() {
						if t.Failed() {
							t.Logf("seed %d", seed)
						}
					}()
					d, err := device(t)
					if err != nil {
						t.Fatal(err)
					}
					var driver *virtiotest.Driver
					if transport == "mmio" {
						driver = virtiotest.New(t, d)
					} else {
						driver, _, _ = virtiotest.NewPCI(t, d)
					}
					misuse(driver, seed)
				})
				if t.Failed() {
					t.Fatalf("round %d", rounds)
				}
			}
		}
		settle(t, begin)
	}
	now := atRest(t)
	t.Logf("%d rounds with %d devices over 2 transports; at first %+v, now %+v", rounds, len(devices), begin, now)
	limit := 256 << 20
	if raceEnabled {
		limit *= 4
	}
	if grown := now.rss - begin.rss; grown > limit {
		t.Errorf("the process has grown by %d MiB", grown>>20)
	}
}

// misuse plays a random script, while another processor writes and reads registers.
func misuse(d *virtiotest.Driver, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	script := make([]byte, 200+random.IntN(2000))
	for i := range script {
		script[i] = byte(random.Uint32())
	}
	stop := make(chan struct{})
	var other sync.WaitGroup
	if random.IntN(2) == 0 {
		other.Go(func() {
			random := rand.New(rand.NewPCG(seed, 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch random.IntN(3) {
				case 0:
					d.Config(uint64(random.IntN(300)), 1<<random.IntN(4))
				case 1:
					d.SetConfig(uint64(random.IntN(300)), make([]byte, 1<<random.IntN(4)))
				case 2:
					d.Kick(random.IntN(8))
				}
			}
		})
	}
	d.Play(script)
	close(stop)
	other.Wait()
}

// settle waits until the process has no more descriptors and goroutines than at
// first.
func settle(t *testing.T, first rest) {
	t.Helper()
	var now rest
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		now = atRest(t)
		if now.files <= first.files && now.goroutines <= first.goroutines {
			return
		}
	}
	stacks := make([]byte, 1<<16)
	t.Fatalf("%d descriptors and %d goroutines are left, of %d and %d\n%s", now.files, now.goroutines, first.files, first.goroutines,
		stacks[:runtime.Stack(stacks, true)])
}
