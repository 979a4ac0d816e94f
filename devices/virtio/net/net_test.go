package net_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/devices/virtio"
	virtionet "vmm/devices/virtio/net"
	"vmm/devices/virtio/virtiotest"
)

var le = binary.LittleEndian

// Features, by the bits of virtio §5.1.3.
const (
	guestChecksum = 1 << 1
	featureMTU    = 1 << 3
	guestTSO4     = 1 << 7
	mergeable     = 1 << 15
	control       = 1 << 17
	multiQueue    = 1 << 22

	all = ^virtio.Features(0)
)

const headerSize = 12

// port is a cable whose other ends the test holds.
type port struct {
	fds, far []int
	mtu      int

	mu       sync.Mutex
	offload  int
	attached int
}

func newPort(t testing.TB, pairs int) *port {
	t.Helper()
	p := &port{mtu: 1500}
	for range pairs {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.fds = append(p.fds, fds[0])
		p.far = append(p.far, fds[1])
		t.Cleanup(func() { unix.Close(fds[1]) })
	}
	return p
}

func newPortWith(t testing.TB, pairs, mtu int) *port {
	p := newPort(t, pairs)
	p.mtu = mtu
	return p
}

func (p *port) FDs() []int { return p.fds }
func (p *port) MTU() int   { return p.mtu }

func (p *port) SetOffload(flags int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offload = flags
	return nil
}

func (p *port) SetQueues(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attached = n
	return nil
}

func (p *port) state() (offload, attached int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offload, p.attached
}

func (p *port) Close() error {
	for _, fd := range p.fds {
		unix.Close(fd)
	}
	return nil
}

// wait waits until the far end of a queue can be read.
func (p *port) wait(i int, timeout time.Duration) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(p.far[i]), Events: unix.POLLIN}}, int(timeout.Milliseconds()))
	return n == 1
}

// drained waits until the device has taken the frames that were given to a queue,
// and a little longer, for it to have done with the last.
func (p *port) drained(t testing.TB, i int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n, err := unix.IoctlGetInt(p.fds[i], unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			time.Sleep(20 * time.Millisecond)
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the device takes no frames")
		}
	}
}

// take reads a frame that the guest sent, with its header.
func (p *port) take(t testing.TB, i int) []byte {
	t.Helper()
	if !p.wait(i, 20*time.Second) {
		t.Fatal("no frame comes out")
	}
	b := make([]byte, 1<<17)
	n, err := unix.Read(p.far[i], b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// give sends a frame to the guest.
func (p *port) give(t testing.TB, i int, frame []byte) {
	t.Helper()
	if _, err := unix.Write(p.far[i], append(make([]byte, headerSize), frame...)); err != nil {
		t.Fatal(err)
	}
}

var mac = net.HardwareAddr{2, 0, 0, 0, 0, 7}

func newCard(t testing.TB, p *port) *virtionet.Device {
	t.Helper()
	d, err := virtionet.New(virtionet.Config{Port: p, MAC: mac})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func frame(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func TestConfiguration(t *testing.T) {
	for _, bad := range []net.HardwareAddr{nil, {1, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 0, 0, 1}} {
		if _, err := virtionet.New(virtionet.Config{Port: newPort(t, 1), MAC: bad}); err == nil {
			t.Errorf("a card has the address %v", bad)
		}
	}
	p := newPortWith(t, 3, 9000)
	// The MTU is for those who ask for it.
	for mtu, want := range map[int][2]byte{0: {}, 68: {68, 0}, 9000: {0x28, 0x23}} {
		card, err := virtionet.New(virtionet.Config{Port: newPortWith(t, 1, 9000), MAC: mac, MTU: mtu})
		if err != nil {
			t.Fatal(err)
		}
		d := virtiotest.New(t, card)
		if got := d.Config(10, 2); !bytes.Equal(got, want[:]) || d.Offered()&featureMTU != 0 != (mtu != 0) {
			t.Errorf("an MTU of %d: % x, offers %#x", mtu, got, d.Offered())
		}
	}
	for _, mtu := range []int{-1, 67, 9001, 1 << 16} {
		if _, err := virtionet.New(virtionet.Config{Port: p, MAC: mac, MTU: mtu}); err == nil {
			t.Errorf("a card has an MTU of %d on a port with 9000", mtu)
		}
	}
	d := virtiotest.Start(t, newCard(t, p), all)
	want := append(slices.Clone([]byte(mac)), 1, 0, 3, 0, 0, 0)
	if got := d.Config(0, 12); !bytes.Equal(got, want) {
		t.Errorf("configuration % x; want % x", got, want)
	}
	if n := len(d.Rings); n != 7 {
		t.Errorf("%d queues; want 3 pairs and one for control", n)
	}
}

func TestSend(t *testing.T) {
	p := newPort(t, 1)
	d := virtiotest.Start(t, newCard(t, p), all)
	for _, n := range []int{0, 14, 60, 1514, 65549} {
		f := frame(n)
		head := []byte{1, 0, 0, 0, 0, 0, 14, 0, 16, 0, 0, 0}
		// In one buffer, and in many.
		d.Do(1, d.Out(append(slices.Clone(head), f...)))
		if got := p.take(t, 0); !bytes.Equal(got, append(slices.Clone(head), f...)) {
			t.Errorf("%d bytes sent: another frame of %d came out", n, len(got))
		}
		d.Do(1, d.Out(head[:5]), d.Out(head[5:]), d.Out(f[:n/2]), d.Out(f[n/2:]))
		if got := p.take(t, 0); !bytes.Equal(got, append(slices.Clone(head), f...)) {
			t.Errorf("%d bytes sent in pieces: another frame of %d came out", n, len(got))
		}
	}
}

// A cable that takes nothing for a while loses nothing, and a reset does not
// wait for it.
func TestSendBlocked(t *testing.T) {
	p := newPort(t, 1)
	d := virtiotest.Start(t, newCard(t, p), all)
	const frames = 200
	b := d.Out(append(make([]byte, headerSize), frame(9000)...))
	for range frames {
		d.Rings[1].Add(b)
	}
	d.Kick(1)
	time.Sleep(20 * time.Millisecond)
	for range frames {
		if got := p.take(t, 0); len(got) != headerSize+9000 {
			t.Fatalf("a frame of %d bytes", len(got))
		}
		d.Wait(1)
	}
	for range frames {
		d.Rings[1].Add(b)
	}
	d.Kick(1)
	time.Sleep(20 * time.Millisecond)
	d.Reset()
}

// received reads the frame that the driver gets: the header says how many
// chains it spans.
func received(t *testing.T, d *virtiotest.Driver, buffers map[uint16]virtiotest.Buffer) []byte {
	t.Helper()
	head, n := d.Wait(0)
	first := buffers[head].Data[:n]
	got := slices.Clone(first[headerSize:])
	for range le.Uint16(first[10:]) - 1 {
		head, n, ok := d.Rings[0].Take()
		if !ok {
			t.Fatal("the chains of a frame came one by one")
		}
		got = append(got, buffers[head].Data[:n]...)
	}
	return got
}

func TestReceive(t *testing.T) {
	for name, tt := range map[string]struct {
		features virtio.Features
		size     int // of a buffer
	}{
		"one buffer":   {all &^ mergeable, headerSize + 14 + 65535},
		"large":        {all, headerSize + 14 + 65535},
		"merged":       {all, 1536},
		"merged, tiny": {all, 300},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPort(t, 1)
			d := virtiotest.Start(t, newCard(t, p), tt.features)
			buffers := map[uint16]virtiotest.Buffer{}
			for range 256 {
				b := d.In(tt.size)
				buffers[d.Rings[0].Add(b)] = b
			}
			d.Kick(0)
			for _, n := range []int{14, 60, 1514, 1524, 1525, 9014, 40000} {
				f := frame(n)
				p.give(t, 0, f)
				if got := received(t, d, buffers); !bytes.Equal(got, f) {
					t.Errorf("%d bytes sent; %d others came", n, len(got))
				}
			}
		})
	}
}

// Frames wait in the cable as long as there is no buffer for them.
func TestReceiveLater(t *testing.T) {
	p := newPort(t, 1)
	d := virtiotest.Start(t, newCard(t, p), all)
	p.give(t, 0, frame(100))
	p.give(t, 0, frame(200))
	time.Sleep(20 * time.Millisecond)
	for _, n := range []int{100, 200} {
		b := d.In(2048)
		if got := d.Do(0, b); got != uint32(headerSize+n) || !bytes.Equal(b.Data[headerSize:got], frame(n)) {
			t.Errorf("%d bytes; want %d", got, headerSize+n)
		}
	}
}

// command gives the control queue a command and returns its answer.
func command(d *virtiotest.Driver, data ...byte) byte {
	answer := d.In(1)
	answer.Data[0] = 0xee
	d.Do(len(d.Rings)-1, d.Out(data[:2]), d.Out(data[2:]), answer)
	return answer.Data[0]
}

func TestControl(t *testing.T) {
	p := newPort(t, 2)
	d := virtiotest.Start(t, newCard(t, p), all)
	offload, attached := p.state()
	if offload != unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6|unix.TUN_F_TSO_ECN || attached != 1 {
		t.Errorf("at first: offload %#x, %d queues", offload, attached)
	}
	for _, tt := range []struct {
		name    string
		command []byte
		want    byte
	}{
		{"two pairs", []byte{4, 0, 2, 0}, 0},
		{"no pair", []byte{4, 0, 0, 0}, 1},
		{"three pairs", []byte{4, 0, 3, 0}, 1},
		{"half a number", []byte{4, 0, 2}, 1},
		{"only checksums", append([]byte{5, 0}, le.AppendUint64(nil, guestChecksum)...), 0},
		{"an offload that is none", append([]byte{5, 0}, le.AppendUint64(nil, 1<<40)...), 1},
		{"promiscuous", []byte{0, 0, 1}, 0},
		{"filter of addresses", []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0},
		{"address", []byte{1, 1, 2, 0, 0, 0, 0, 9}, 0},
		{"half an address", []byte{1, 1, 2, 0}, 1},
		{"VLANs, which were not offered", []byte{2, 0, 1, 0}, 1},
	} {
		if got := command(d, tt.command...); got != tt.want {
			t.Errorf("%s: answer %d; want %d", tt.name, got, tt.want)
		}
	}
	if offload, attached := p.state(); offload != unix.TUN_F_CSUM || attached != 2 {
		t.Errorf("in the end: offload %#x, %d queues", offload, attached)
	}
	if got := d.Config(0, 6); got[5] != 9 {
		t.Errorf("address % x; want the one that was set", got)
	}
	// The second pair works, and a reset undoes all of it.
	b := d.In(2048)
	p.give(t, 1, frame(64))
	d.Do(2, b)
	d.Reset()
	d.SetUp(0)
	if offload, attached := p.state(); offload != 0 || attached != 1 {
		t.Errorf("a driver without features: offload %#x, %d queues", offload, attached)
	}
	if got := d.Config(0, 6); !bytes.Equal(got, mac) {
		t.Errorf("address % x after a reset", got)
	}
}

// The control queue is the third where there is one pair or the driver takes no
// more. virtio §5.1.2.
func TestControlWithoutMultiQueue(t *testing.T) {
	d := virtiotest.Start(t, newCard(t, newPort(t, 2)), control|mergeable)
	answer := d.In(1)
	answer.Data[0] = 0xee
	d.Do(2, d.Out([]byte{0, 0}), d.Out([]byte{1}), answer)
	if answer.Data[0] != 0 {
		t.Errorf("answer %d", answer.Data[0])
	}
}

func TestLink(t *testing.T) {
	p := newPort(t, 1)
	card := newCard(t, p)
	d := virtiotest.Start(t, card, all)
	generation := d.Generation()
	card.SetLink(false)
	if !d.WaitInterrupt(20*time.Second) || d.Reasons()&2 == 0 {
		t.Fatal("the driver is not told")
	}
	if d.Config(6, 2)[0] != 0 || d.Generation() == generation {
		t.Error("the cable is still in")
	}
	// What is sent goes nowhere, and nothing comes.
	d.Do(1, d.Out(make([]byte, headerSize+60)))
	if p.wait(0, 10*time.Millisecond) {
		t.Error("a frame came out")
	}
	b := d.In(2048)
	d.Rings[0].Add(b)
	d.Kick(0)
	p.give(t, 0, frame(60))
	p.drained(t, 0)
	card.SetLink(true)
	p.give(t, 0, frame(61))
	if _, n := d.Wait(0); n != headerSize+61 {
		t.Errorf("%d bytes; want the frame that came after the cable was in", n)
	}
}

// Resets in the middle of traffic; whatever comes afterwards works.
func TestResetWhileBusy(t *testing.T) {
	p := newPort(t, 2)
	d := virtiotest.New(t, newCard(t, p))
	done := make(chan struct{})
	var traffic sync.WaitGroup
	traffic.Go(func() {
		b := make([]byte, 1<<17)
		for {
			select {
			case <-done:
				return
			default:
				_, _ = unix.Write(p.far[0], b[:1000])
				_, _ = unix.Read(p.far[0], b)
			}
		}
	})
	out := d.Out(make([]byte, headerSize+1000))
	in := d.In(2048)
	rounds := 200
	if n, err := strconv.Atoi(os.Getenv("VMM_RESETS")); err == nil {
		rounds = n
	}
	mark := d.Mark()
	for range rounds {
		d.Free(mark)
		d.SetUp(all)
		for range 100 {
			d.Rings[0].Add(in)
			d.Rings[1].Add(out)
		}
		d.Kick(0)
		d.Kick(1)
		d.Wait(1)
		d.Reset()
	}
	close(done)
	traffic.Wait()
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{3, 0, 0, 1, 40, 0, 10, 0, 5, 6, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		p := newPort(t, 2)
		for i := range p.far {
			p.give(t, i, frame(1000))
			p.give(t, i, frame(60))
		}
		d := virtiotest.New(t, newCard(t, p))
		d.Play(script)
		d.SetUp(all)
		d.Do(1, d.Out(make([]byte, headerSize+60)))
	})
}

// BenchmarkTransfer sends frames through the card and back.
func BenchmarkTransfer(b *testing.B) {
	for name, size := range map[string]int{"1514": 1514, "65549": 65549} {
		b.Run("send "+name, func(b *testing.B) {
			p := newPort(b, 1)
			d := virtiotest.Start(b, newCard(b, p), all)
			out := d.Out(make([]byte, headerSize+size))
			buf := make([]byte, 1<<17)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				d.Do(1, out)
				_, _ = unix.Read(p.far[0], buf)
			}
		})
		b.Run("receive "+name, func(b *testing.B) {
			p := newPort(b, 1)
			d := virtiotest.Start(b, newCard(b, p), all)
			in := d.In(headerSize + 14 + 65535)
			out := make([]byte, headerSize+size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = unix.Write(p.far[0], out)
				d.Do(0, in)
			}
		})
	}
}
