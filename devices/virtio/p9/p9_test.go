package p9_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"vmm/devices/virtio"
	"vmm/devices/virtio/p9"
	"vmm/devices/virtio/virtiotest"
	"vmm/share"
)

var le = binary.LittleEndian

const all = ^virtio.Features(0)

// echo is a server that answers each message with itself, two by two and the
// second first.
type echo struct{}

func (echo) Close() error { return nil }

func (echo) Serve(in io.ReadCloser, out io.WriteCloser) error {
	var held []byte
	for {
		head := make([]byte, 7)
		if _, err := io.ReadFull(in, head); err != nil {
			return err
		}
		message := append(head, make([]byte, le.Uint32(head)-7)...)
		if _, err := io.ReadFull(in, message[7:]); err != nil {
			return err
		}
		if held == nil && message[4] == 'h' {
			held = message
			continue
		}
		for _, m := range [][]byte{message, held} {
			if m != nil { // in pieces
				_, _ = out.Write(m[:3])
				_, _ = out.Write(m[3:])
			}
		}
		held = nil
	}
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
	d := start(t, echo{})
	if got := d.Config(0, 7); string(got) != "\x05\x00share" {
		t.Errorf("configuration %q", got)
	}
	for _, tag := range []string{"", string(make([]byte, 256))} {
		if _, err := p9.New(tag, echo{}); err == nil {
			t.Errorf("a tag of %d bytes", len(tag))
		}
	}
}

func TestMessages(t *testing.T) {
	d := start(t, echo{})
	m := message('x', 7, "hello, file server")
	a, b := d.In(10), d.In(100)
	if n := d.Do(0, d.Out(m[:5]), d.Out(m[5:12]), d.Out(m[12:]), a, b); n != uint32(len(m)) {
		t.Errorf("an answer of %d bytes; want %d", n, len(m))
	}
	if got := append(bytes.Clone(a.Data), b.Data...)[:len(m)]; !bytes.Equal(got, m) {
		t.Errorf("answer %q", got)
	}
	// What is behind the message is not of it.
	if n := d.Do(0, d.Out(append(m, "more"...)), d.In(100)); n != uint32(len(m)) {
		t.Errorf("an answer of %d bytes", n)
	}
	// Answers find their chains, in whatever order they come.
	first, second := d.In(100), d.In(100)
	h1 := d.Rings[0].Add(d.Out(message('h', 1, "one")), first)
	h2 := d.Rings[0].Add(d.Out(message('x', 2, "second")), second)
	d.Kick(0)
	for _, want := range []uint16{h2, h1} {
		if head, _ := d.Wait(0); head != want {
			t.Errorf("chain %d is answered; want %d", head, want)
		}
	}
	if string(first.Data[7:10]) != "one" || string(second.Data[7:13]) != "second" {
		t.Error("the answers are mixed up")
	}
}

func TestBadMessages(t *testing.T) {
	d := start(t, echo{})
	for name, bad := range map[string][]byte{
		"nothing":                   {},
		"half a header":             {7, 0, 0},
		"size of less than a head":  {6, 0, 0, 0, 'x', 1, 0},
		"size of more than is sent": {8, 0, 0, 0, 'x', 1, 0},
		"size past any limit":       append([]byte{0, 0, 64, 0, 'x', 1, 0}, make([]byte, 100)...),
	} {
		if n := d.Do(0, d.Out(bad), d.In(100)); n != 0 {
			t.Errorf("%s: an answer of %d bytes", name, n)
		}
	}
	// A tag that is in use.
	d.Rings[0].Add(d.Out(message('h', 1, "held")), d.In(100))
	d.Kick(0)
	if n := d.Do(0, d.Out(message('x', 1, "")), d.In(100)); n != 0 {
		t.Errorf("an answer of %d bytes to a second message with a tag", n)
	}
	// Txattrcreate is refused before it can take memory, and Txattrwalk with an
	// error that Linux understands.
	for _, kind := range []byte{30, 32} {
		r := d.In(100)
		if n := d.Do(0, d.Out(message(kind, 9, "whatever")), r); n != 11 || r.Data[4] != 7 || le.Uint16(r.Data[5:]) != 9 || le.Uint32(r.Data[7:]) != 95 {
			t.Errorf("extended attribute, message %d: % x", kind, r.Data[:n])
		}
	}
	// No room for the answer.
	if n := d.Do(0, d.Out(message('x', 2, "a long one")), d.In(12)); n != 0 {
		t.Errorf("an answer of %d bytes where it has no room", n)
	}
}

func TestReset(t *testing.T) {
	dev, err := p9.New("share", echo{})
	if err != nil {
		t.Fatal(err)
	}
	d := virtiotest.New(t, dev)
	for range 50 {
		d.SetUp(all)
		for i := range uint16(40) {
			d.Rings[0].Add(d.Out(message("hx"[i&1], i, "body")), d.In(50))
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
		folder, err := share.Open(t.TempDir(), false)
		if err != nil {
			t.Fatal(err)
		}
		d := start(t, folder)
		d.Reset()
		d.Play(script)
		d.SetUp(all)
		reply := d.In(100)
		if n := d.Do(0, d.Out(message(100, 0xffff, "\x00\x00\x01\x00\x08\x009P2000.L")), reply); n != 21 {
			t.Errorf("% x; want the version", reply.Data[:n])
		}
	})
}

// The cost of a message in the middle of a session: the attributes of a file. What
// it allocates is the server's library's.
func BenchmarkMessage(b *testing.B) {
	folder, err := share.Open(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	d := start(b, folder)
	const version, attach, getattr = 100, 104, 24
	in := d.In(200)
	for _, out := range [][]byte{
		message(version, 0xffff, "\x00\x00\x01\x00\x08\x009P2000.L"),
		message(attach, 1, "\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"),
	} {
		if d.Do(0, d.Out(out), in); in.Data[4] != out[4]+1 {
			b.Fatalf("the answer to message %d: % x", out[4], in.Data[:20])
		}
	}
	out := d.Out(message(getattr, 1, "\x00\x00\x00\x00\xff\x07\x00\x00\x00\x00\x00\x00"))
	b.ReportAllocs()
	for b.Loop() {
		d.Do(0, out, in)
	}
	if in.Data[4] != getattr+1 {
		b.Errorf("the answer: % x", in.Data[:20])
	}
}
