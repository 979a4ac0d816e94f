package vsock

import (
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"
)

// A pause leaves connections alone: what comes meanwhile waits.
func TestPause(t *testing.T) {
	g := newGuest(t)
	s, c := g.dialGuest(52)
	for i := range 20 {
		g.Transport.Pause()
		fmt.Fprintf(c, "host %2d", i)
		g.Kick(queueTransmit)
		if g.WaitInterrupt(time.Millisecond) {
			if _, _, ok := g.Rings[queueReceive].Take(); ok {
				t.Fatal("a packet comes in a pause")
			}
		}
		g.Transport.Resume()
		if _, got := g.expect(opData); got != fmt.Sprintf("host %2d", i) {
			t.Fatalf("after pause %d the guest reads %q", i, got)
		}
		s.send(opData, fmt.Sprintf("guest %2d", i))
		if got := readN(t, c, 8); got != fmt.Sprintf("guest %2d", i) {
			t.Fatalf("after pause %d the host reads %q", i, got)
		}
	}
}

// With another device, connections are gone: the guest is told, by the event and for
// each that it goes on to use. New ones work.
func TestMove(t *testing.T) {
	g := newGuest(t)
	s, c := g.dialGuest(52)
	event := g.In(4)
	g.Rings[queueEvent].Add(event)
	g.Kick(queueEvent)
	path := filepath.Join(filepath.Dir(g.path), "second")
	next, err := New(Config{CID: guestCID, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	g.Move(next)
	g.path = path
	if _, n := g.Wait(queueEvent); n != 4 || le.Uint32(event.Data) != 0 {
		t.Errorf("the event has %d bytes, % x", n, event.Data)
	}
	s.send(opData, "into the void")
	if h, _ := g.expect(opReset); h.dstPort != s.srcPort {
		t.Errorf("port %d is reset; want %d", h.dstPort, s.srcPort)
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); err == io.EOF {
		t.Error("the first device ends its connections though its machine may go on")
	}
	again, c := g.dialGuest(53)
	again.send(opData, "hello")
	if got := readN(t, c, 5); got != "hello" {
		t.Errorf("the host reads %q", got)
	}
}
