package p9_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"

	"vmm/devices/virtio"
	"vmm/devices/virtio/p9"
	"vmm/devices/virtio/virtiotest"
)

var le = binary.LittleEndian

const all = ^virtio.Features(0)

// echo is a server that answers each message with itself. It keeps one that begins
// with 'h' until the next has been answered.
type echo struct{ held func() }

func (*echo) Close() error { return nil }

func (*echo) State() any                     { return nil }
func (*echo) SetState(json.RawMessage) error { return nil }

func (e *echo) Reset() { e.Wait() }

func (e *echo) Wait() {
	if e.held != nil {
		e.held()
	}
	e.held = nil
}

func (e *echo) Handle(in, out [][]byte, _ bool, done func(n int)) {
	message := bytes.Join(in, nil)
	answer := func() {
		n := 0
		for _, piece := range out {
			n += copy(piece, message[n:])
		}
		done(n)
	}
	if e.held == nil && len(message) > 0 && message[0] == 'h' {
		e.held = answer
		return
	}
	answer()
	e.Reset()
}

func message(kind byte, tag uint16, body string) []byte {
	b := le.AppendUint32(nil, uint32(7+len(body)))
	return append(le.AppendUint16(append(b, kind), tag), body...)
}

func start(t testing.TB, s p9.Server) *virtiotest.Driver {
	t.Helper()
	dev, err := p9.New("share", s)
	if err != nil {
		t.Fatal(err)
	}
	return virtiotest.Start(t, dev, all)
}

func TestConfiguration(t *testing.T) {
	d := start(t, new(echo))
	if got := d.Config(0, 7); string(got) != "\x05\x00share" {
		t.Errorf("configuration %q", got)
	}
	for _, tag := range []string{"", string(make([]byte, 256))} {
		if _, err := p9.New(tag, new(echo)); err == nil {
			t.Errorf("a tag of %d bytes", len(tag))
		}
	}
}

func TestMessages(t *testing.T) {
	d := start(t, new(echo))
	m := []byte("x: hello, file server")
	a, b := d.In(10), d.In(100)
	if n := d.Do(0, d.Out(m[:5]), d.Out(m[5:12]), d.Out(m[12:]), a, b); n != uint32(len(m)) {
		t.Errorf("an answer of %d bytes; want %d", n, len(m))
	}
	if got := append(bytes.Clone(a.Data), b.Data...)[:len(m)]; !bytes.Equal(got, m) {
		t.Errorf("answer %q", got)
	}
	// Answers find their chains, in whatever order they come.
	first, second := d.In(100), d.In(100)
	h1 := d.Rings[0].Add(d.Out([]byte("h one")), first)
	h2 := d.Rings[0].Add(d.Out([]byte("x second")), second)
	d.Kick(0)
	for _, want := range []uint16{h2, h1} {
		if head, _ := d.Wait(0); head != want {
			t.Errorf("chain %d is answered; want %d", head, want)
		}
	}
	if string(first.Data[:5]) != "h one" || string(second.Data[:8]) != "x second" {
		t.Error("the answers are mixed up")
	}
}

// A reset answers what is under way, and afterwards the device works.
func TestReset(t *testing.T) {
	dev, err := p9.New("share", new(echo))
	if err != nil {
		t.Fatal(err)
	}
	d := virtiotest.New(t, dev)
	for range 50 {
		d.SetUp(all)
		for i := range 40 {
			d.Rings[0].Add(d.Out([]byte("hx"[i&1:])), d.In(50))
		}
		d.Kick(0)
		d.Wait(0)
		d.Reset()
	}
}

// FuzzDevice has the file server behind the device, on an empty folder.
func FuzzDevice(f *testing.F) {
	version := append([]byte{7, 0, 0, 21, 21, 0, 0, 0, 100, 255, 255, 0, 0, 1, 0, 8, 0}, "9P2000.L"...)
	f.Add(append(version, 3, 0, 1, 1, 21, 0, 0, 100, 0, 0))
	f.Fuzz(func(t *testing.T, script []byte) {
		d := start(t, server(t, t.TempDir()))
		d.Reset()
		d.Play(script)
		d.SetUp(all)
		reply := d.In(100)
		if n := d.Do(0, d.Out(message(100, 0xffff, "\x00\x00\x01\x00\x08\x009P2000.L")), reply); n != 21 {
			t.Errorf("% x; want the version", reply.Data[:n])
		}
	})
}
