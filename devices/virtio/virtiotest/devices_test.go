// Tests of what all devices have in common: each is one of every device, on both
// transports, before a driver that misuses it.
package virtiotest_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

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

var le = binary.LittleEndian

// subject is a device, with a request that it answers.
type subject struct {
	name    string
	open    func(t testing.TB) virtio.Device
	queue   int // of the request
	request func(d *virtiotest.Driver) []virtiotest.Buffer
}

// subjects are all devices.
var subjects = []subject{
	{"blk", func(t testing.TB) virtio.Device { return openDisk(t, false) }, 0, readSector},
	// Requests wait for the storage, in a ring of the kernel's or with threads.
	{"blk, direct", func(t testing.TB) virtio.Device { return openDisk(t, true) }, 0, readSector},
	{"net", openCard, 1, func(d *virtiotest.Driver) []virtiotest.Buffer {
		return []virtiotest.Buffer{d.Out(make([]byte, 12+60))}
	}},
	{"console", func(testing.TB) virtio.Device { return console.New(io.Discard) }, 1, func(d *virtiotest.Driver) []virtiotest.Buffer {
		return []virtiotest.Buffer{d.Out([]byte("x"))}
	}},
	{"rng", func(testing.TB) virtio.Device { return rng.New() }, 0, func(d *virtiotest.Driver) []virtiotest.Buffer {
		return []virtiotest.Buffer{d.In(8)}
	}},
	{"balloon", func(testing.TB) virtio.Device { return balloon.New(balloon.Config{Reporting: true}) }, 0, func(d *virtiotest.Driver) []virtiotest.Buffer {
		return []virtiotest.Buffer{d.Out([]byte{0xff, 0xff, 0xff, 0xff})}
	}},
	{"vsock", openVsock, 1, func(d *virtiotest.Driver) []virtiotest.Buffer {
		return []virtiotest.Buffer{d.Out(make([]byte, 44))}
	}},
	{"9p", openShare, 0, func(d *virtiotest.Driver) []virtiotest.Buffer {
		version := "9P2000.L" // Tversion
		m := le.AppendUint32(nil, uint32(4+1+2+4+2+len(version)))
		m = le.AppendUint32(append(m, 100, 0xff, 0xff), 8192)
		m = append(le.AppendUint16(m, uint16(len(version))), version...)
		return []virtiotest.Buffer{d.Out(m), d.In(64)}
	}},
}

func readSector(d *virtiotest.Driver) []virtiotest.Buffer {
	return []virtiotest.Buffer{d.Out(make([]byte, 16)), d.In(512), d.In(1)}
}

func openDisk(t testing.TB, direct bool) virtio.Device {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := disk.Open(disk.Config{Path: path, Direct: direct})
	if err != nil && direct {
		t.Skipf("the folder for temporary files: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := blk.New(blk.Config{Image: image, Close: image.Close, Queues: 2})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// cable is a port with two pairs of queues, whose other ends take and send nothing.
type cable struct{ fds []int }

func (c cable) FDs() []int           { return c.fds }
func (c cable) MTU() int             { return 1500 }
func (c cable) SetOffload(int) error { return nil }
func (c cable) SetQueues(int) error  { return nil }

func (c cable) Close() error {
	for _, fd := range c.fds {
		unix.Close(fd)
	}
	return nil
}

func openCard(t testing.TB) virtio.Device {
	t.Helper()
	var c cable
	for range 2 {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c.fds = append(c.fds, fds[0])
		unix.Close(fds[1]) // what is sent is lost
	}
	d, err := virtionet.New(virtionet.Config{Port: c, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openVsock(t testing.TB) virtio.Device {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmm") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d, err := vsock.New(vsock.Config{CID: 3, Path: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openShare(t testing.TB) virtio.Device {
	t.Helper()
	folder, err := share.Open(t.TempDir(), false, share.NewBudget())
	if err != nil {
		t.Fatal(err)
	}
	d, err := p9.New("share", ninep.New(folder))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// onEach runs a test with every device on either transport.
func onEach(t *testing.T, test func(t *testing.T, s subject, start func() *virtiotest.Driver)) {
	for _, s := range subjects {
		for _, pci := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, PCI %v", s.name, pci), func(t *testing.T) {
				test(t, s, func() *virtiotest.Driver {
					log := slog.New(slog.DiscardHandler)
					if !pci {
						return virtiotest.NewLogged(t, s.open(t), log)
					}
					d, _, _ := virtiotest.NewPCILogged(t, s.open(t), log)
					return d
				})
			})
		}
	}
}
