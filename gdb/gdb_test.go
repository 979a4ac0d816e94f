package gdb

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// client is gdb's end of a connection.
type client struct {
	t *testing.T
	net.Conn
	r    *bufio.Reader
	acks bool
}

func serve(t *testing.T) (*fake, *Server, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gdb")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := newFake()
	s := Serve(l, f, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, s, path
}

func connect(t *testing.T, path string) *client {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, Conn: c, r: bufio.NewReader(c), acks: true}
}

func packet(body string) string {
	var sum byte
	for i := range len(body) {
		sum += body[i]
	}
	return fmt.Sprintf("$%s#%02x", body, sum)
}

// send sends a packet and expects it to be acknowledged.
func (c *client) send(body string) {
	c.t.Helper()
	c.raw(packet(body))
	if c.acks {
		c.expectRaw("+")
	}
}

func (c *client) raw(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) expectRaw(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		c.t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// answer reads a packet.
func (c *client) answer() string {
	c.t.Helper()
	body, err := readPacket(c.r)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.acks {
		_, _ = io.WriteString(c, "+") // which the other end may not wait for
	}
	return string(body)
}

func (c *client) ask(body, want string) {
	c.t.Helper()
	c.send(body)
	if got := c.answer(); got != want {
		c.t.Errorf("%.60s: %.100q; want %q", body, got, want)
	}
}

// What gdb asks, and what it is told. Absent threads, unmapped addresses and
// nonsense are errors, and the session goes on.
func TestCommands(t *testing.T) {
	f, _, path := serve(t)
	f.mu.Lock()
	copy(f.memory[:], "hello")
	f.mu.Unlock()
	c := connect(t, path)
	for _, tt := range []struct{ ask, want string }{
		{"qSupported:multiprocess+;swbreak+", "PacketSize=4000;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+"},
		{"vMustReplyEmpty", ""},
		{"!", ""},
		{"?", "T02thread:1;"},
		{"qC", "QC1"},
		{"qAttached", "1"},
		{"qfThreadInfo", "m1,2"},
		{"qsThreadInfo", "l"},
		{"qThreadExtraInfo,2", "764350552031"},
		{"qThreadExtraInfo,3", "E16"},
		{"T2", "OK"},
		{"T3", "E16"},
		{"Tzz", "E16"},
		{"Hg2", "OK"},
		{"Hg9", "E16"},
		{"Hc-1", "OK"},
		{"Hq1", ""},
		{"H", "E16"},
		{"p10", "0110000000" + "80ffff"},
		{"pff", "E16"},
		{"p", "E16"},
		{"P0=0102030405060708", "OK"},
		{"p0", "0102030405060708"},
		{"P0=01", "E16"},
		{"P0", "E16"},
		{"P9999=00", "E16"},
		{"Gabcd", "E16"},
		{"mffff800000001000,5", "68656c6c6f"},
		{"mffff8000000010fe,8", "0000"},
		{"m0,8", "E0e"},
		{"mffff800000001000,ffffffffffffffff", "68656c6c6f" + strings.Repeat("00", 251)},
		{"m10000000000000000,1", "E16"},
		{"mzz", "E16"},
		{"Mffff800000001000,2:4a4b", "OK"},
		{"mffff800000001000,3", "4a4b6c"},
		{"Mffff800000001000,3:4a4b", "E16"},
		{"Mffff800000001000,2:4a4", "E16"},
		{"Mffff800000001000", "E16"},
		{"M0,1:00", "E0e"},
		{"Xffff800000001000,0:", "OK"},
		{"Xffff800000001000,3:a}\x03b", "OK"},
		{"mffff800000001000,3", "612362"},
		{"Z0,ffff800000001000,1", "OK"},
		{"Z2,ffff800000001008,8", "OK"},
		{"Z3,ffff800000001008,8", "E.processors do not watch ?reads? only"},
		{"Z9,0,1", ""},
		{"Z0", "E16"},
		{"z0,ffff800000001000,1", "OK"},
		{"qXfer:features:read:other.xml:0,100", ""},
		{"qXfer:features:read:target.xml:fffffff,100", "E16"},
		{"vCont?", "vCont;c;C;s;S"},
		{"vCont;t", "E16"},
		{"vCont;;", "E16"},
		{"vCont;s:7", "E16"},
		{"vCont", "E16"},
		{"QStartNoAckMode", "OK"},
	} {
		c.ask(tt.ask, tt.want)
	}
	c.acks = false
	c.ask("qC", "QC2")
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff([]Breakpoint{{WatchWrite, page + 8, 8}}, f.points); diff != "" {
		t.Error(diff)
	}
}

// The whole of the registers, there and back, and the description of them.
func TestRegisters(t *testing.T) {
	f, _, path := serve(t)
	var want Registers
	want.SetUint(CR3, 0x1234_5000)
	copy(want.Bytes(XMM0+15), "0123456789abcdef")
	f.set(want)
	c := connect(t, path)
	c.send("g")
	all := c.answer()
	f.set(Registers{})
	c.ask("G"+all, "OK")
	f.mu.Lock()
	if f.regs[0] != want {
		t.Error("what was read is not what was written back")
	}
	f.mu.Unlock()
	var text string
	for {
		c.send(fmt.Sprintf("qXfer:features:read:target.xml:%x,300", len(text)))
		part := c.answer()
		text += string(unescape([]byte(part[1:])))
		if part[0] == 'l' {
			break
		}
	}
	var target struct {
		Features []struct {
			Regs []struct {
				Name string `xml:"name,attr"`
				Bits int    `xml:"bitsize,attr"`
				Num  int    `xml:"regnum,attr"`
			} `xml:"reg"`
		} `xml:"feature"`
	}
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict = false
	if err := d.Decode(&target); err != nil {
		t.Fatal(err)
	}
	n, digits := 0, 0
	for _, feature := range target.Features {
		for _, r := range feature.Regs {
			if r.Num != n {
				t.Errorf("%s is number %d; want %d", r.Name, r.Num, n)
			}
			for name, number := range map[string]Register{"rip": RIP, "fctrl": FCTRL, "xmm0": XMM0, "mxcsr": MXCSR, "fs_base": FSBase, "cr3": CR3, "ldtr": LDTR} {
				if r.Name == name && n != int(number) {
					t.Errorf("%s is number %d; want %d", name, n, number)
				}
			}
			n++
			digits += r.Bits / 4
		}
	}
	if n != registers || digits != len(all) {
		t.Errorf("%d registers in %d digits; want %d in %d", n, digits, registers, len(all))
	}
}

func TestDamage(t *testing.T) {
	_, _, path := serve(t)
	c := connect(t, path)
	c.raw("$qC#00")
	c.expectRaw("-")
	c.raw("$qgarbage$qC#b4") // a packet begins anew
	c.expectRaw("+$QC1#c5")
	c.raw("-")
	c.expectRaw("$QC1#c5")
	c.raw("+")
	c.raw("\x03") // nothing runs
	c.ask("qC", "QC1")
	c.raw("$" + strings.Repeat("x", maxPacket+1))
	if _, err := c.r.ReadByte(); err == nil {
		t.Error("a packet that is too long is answered")
	}
}

// The target runs, stops and is stepped; what comes while it runs is refused.
func TestRunning(t *testing.T) {
	f, _, path := serve(t)
	c := connect(t, path)
	c.ask("?", "T02thread:1;")
	if f.isRunning() {
		t.Error("it runs while gdb looks")
	}
	c.ask("Hg1", "OK")
	c.send("vCont;s:2;c")
	if got := c.answer(); got != "T05thread:2;" {
		t.Errorf("after a step: %q", got)
	}
	f.mu.Lock()
	if diff := cmp.Diff([]Action{Continue, Step}, f.actions); diff != "" {
		t.Error(diff)
	}
	f.mu.Unlock()
	c.ask("p10", "0210000000"+"80ffff")
	c.send("c")
	c.ask("g", "E01")
	if !f.isRunning() {
		t.Error("it does not run")
	}
	c.raw("\x03")
	if got := c.answer(); got != "T02thread:2;" {
		t.Errorf("after an interrupt: %q", got)
	}
	for stop, want := range map[Stop]string{
		{0, AtSoftware, 0}:           "T05thread:1;swbreak:;",
		{1, AtHardware, 0}:           "T05thread:2;hwbreak:;",
		{0, AtWatchWrite, page}:      "T05thread:1;watch:ffff800000001000;",
		{0, AtWatchAccess, page + 8}: "T05thread:1;awatch:ffff800000001008;",
	} {
		c.send("c")
		f.stops <- stop
		if got := c.answer(); got != want {
			t.Errorf("%+v: %q; want %q", stop, got, want)
		}
	}
	// A step from another place.
	c.ask("Hc1", "OK")
	c.send("sffff800000001080")
	if got := c.answer(); got != "T05thread:1;" {
		t.Errorf("after a step elsewhere: %q", got)
	}
	c.ask("p10", "8110000000"+"80ffff")
	c.ask("cnonsense", "E16")
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come to pass", what)
		}
	}
}

// Whenever and however gdb goes, the target runs on without breakpoints, and the
// next gdb is let in.
func TestGone(t *testing.T) {
	f, s, path := serve(t)
	for name, leave := range map[string]func(c *client){
		"at once":        func(*client) {},
		"in a packet":    func(c *client) { c.raw("$mffff8000") },
		"while it stops": func(c *client) { c.ask("Z0,ffff800000001000,1", "OK") },
		"while it runs":  func(c *client) { c.ask("Z0,ffff800000001000,1", "OK"); c.send("c") },
		"in a transfer":  func(c *client) { c.raw(packet("qXfer:features:read:target.xml:0,3000")) },
		"detached":       func(c *client) { c.ask("D", "OK") },
	} {
		c := connect(t, path)
		c.ask("?", "T02thread:1;")
		leave(c)
		c.Close()
		waitFor(t, name+": gone", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.client == nil
		})
		f.mu.Lock()
		if !f.running || len(f.points) != 0 {
			t.Errorf("%s: running %v, breakpoints %v", name, f.running, f.points)
		}
		f.mu.Unlock()
	}
}

// Who does not speak gdb's protocol is hung up on, at the first byte, before
// anything is done to the target, and keeps no gdb out.
func TestForeign(t *testing.T) {
	for name, text := range map[string]string{
		"a web page":           "POST / HTTP/1.1\r\nHost: localhost:1234\r\n\r\n" + packet("Mffff800000001000,1:41") + packet("k"),
		"TLS":                  "\x16\x03\x01" + packet("k"),
		"after a byte of ours": "+POST" + packet("k"),
		"a line feed":          "\n" + packet("k"),
	} {
		f, _, path := serve(t)
		c := connect(t, path)
		c.raw(text)
		if b, err := io.ReadAll(c.r); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: read %q, %v; want the connection closed", name, b, err)
		}
		f.mu.Lock()
		if !f.running || f.killed || f.memory != [256]byte{} {
			t.Errorf("%s: running %v, killed %v", name, f.running, f.killed)
		}
		f.mu.Unlock()
	}
}

// Who says nothing does nothing to the target, and keeps no gdb out.
func TestSilent(t *testing.T) {
	f, _, path := serve(t)
	for range 2 * maxWaiting {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if !f.isRunning() {
		t.Error("the target has stopped")
	}
	connect(t, path).ask("?", "T02thread:1;")
}

// A byte that is not gdb's ends a session, too.
func TestForeignLater(t *testing.T) {
	f, _, path := serve(t)
	c := connect(t, path)
	c.ask("?", "T02thread:1;")
	c.raw("GET / HTTP/1.1\r\n" + packet("k"))
	if _, err := io.ReadAll(c.r); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v; want the connection closed", err)
	}
	waitFor(t, "the target runs", f.isRunning)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.killed {
		t.Error("killed")
	}
}

func TestSecondClient(t *testing.T) {
	_, _, path := serve(t)
	first := connect(t, path)
	first.ask("?", "T02thread:1;")
	second := connect(t, path)
	second.raw("+")
	second.ask("qSupported", "")
	second.send("vMustReplyEmpty")
	if got := second.answer(); !strings.HasPrefix(got, "E.another gdb") {
		t.Errorf("the second is told %q", got)
	}
	first.ask("qC", "QC1")
}

func TestKill(t *testing.T) {
	for _, how := range []string{"k", "vKill;1"} {
		f, _, path := serve(t)
		c := connect(t, path)
		if c.send(how); how != "k" {
			if got := c.answer(); got != "OK" {
				t.Errorf("%s: %q", how, got)
			}
		}
		waitFor(t, how, func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.killed
		})
	}
}

// gdb learns that the machine has ended.
func TestEnd(t *testing.T) {
	_, s, path := serve(t)
	c := connect(t, path)
	c.send("c")
	s.End(3)
	if got := c.answer(); got != "W03" {
		t.Errorf("%q; want W03", got)
	}
}

// FuzzSession sends what may come over a connection. The session survives or
// ends, and then the target runs.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"$g#67", "$m0,ffffffffffffffff#xx", "$qXfer:features:read:target.xml:0,ffffffff#00", "$vCont;s:1;c#c1\x03",
		"$Z0,0,1#73$z0,0,1#93", "$Hg-1#e0$T99#00", "$Xffff800000001000,3:a}#00", "$QStartNoAckMode#b0$?#00", "$D#44",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		target := newFake()
		here, there := net.Pipe()
		s := &Server{target: target, log: slog.New(slog.DiscardHandler), features: description(),
			gone: make(chan struct{})}
		s.xml, s.sizes = targetXML(s.features), layout(s.features)
		s.accept(here)
		go func() { _, _ = io.Copy(io.Discard, there) }()
		_ = there.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = there.Write(b)
		// The same with checksums that are right.
		for _, body := range strings.Split(string(b), "$") {
			body, _, _ = strings.Cut(body, "#")
			_, _ = io.WriteString(there, packet(body))
		}
		there.Close()
		s.done.Wait()
		if !target.isRunning() {
			t.Error("the target stands still, and nobody is there")
		}
	})
}
