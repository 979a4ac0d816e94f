package machine

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// A device that does not stop is named and left alone, with the memory that its
// worker may still use; the others are stopped.
func TestCloseStuck(t *testing.T) {
	m := newMachine(t, []byte{0xf4}, nil)
	stuck, stopped := make(chan bool), make(chan bool)
	m.parts = append(m.parts,
		part{"virtio-test0", func() error { <-stuck; return nil }},
		part{"virtio-test1", func() error { close(stopped); return nil }})
	closers := m.closers

	start := time.Now()
	err := m.Close()
	took := time.Since(start)

	var e *StuckError
	if !errors.As(err, &e) || !slices.Equal(e.Parts, []string{"virtio-test0"}) {
		t.Errorf("Close = %v; want virtio-test0 stuck", err)
	}
	if took < stopFor || took > 2*stopFor {
		t.Errorf("Close took %v; it waits %v", took, stopFor)
	}
	if got := m.Unfinished(); !slices.Equal(got, []string{"virtio-test0"}) {
		t.Errorf("Unfinished = %q", got)
	}
	<-stopped
	if _, err := m.memory.Uint16(0x1000); err != nil {
		t.Errorf("the memory is gone: %v", err)
	}

	close(stuck)
	m.closers = closers // for the end of the test
}

// port is a device whose writes take as long as free is open.
type port struct{ asked, free chan bool }

func (p *port) Read(uint64, []byte) {}
func (p *port) Write(uint64, []byte) {
	p.asked <- true
	<-p.free
}

// A vCPU that a device keeps is named, with the device.
func TestUnfinishedVCPU(t *testing.T) {
	m := newMachine(t, []byte{0xe6, 0x99, 0xf4}, func(c *Config) { c.Console = new(bytes.Buffer) }) // out %al, $0x99; hlt
	p := &port{make(chan bool), make(chan bool)}
	if err := m.ports.Insert(0x99, 1, "test", p); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := m.Run(ctx)
		ended <- err
	}()
	<-p.asked
	cancel()
	<-m.Ended()

	got := m.Unfinished()

	close(p.free)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(got) != 1 || got[0] != "vCPU 0, in an access to test (port 0x99)" {
		t.Errorf("Unfinished = %q", got)
	}
	if o, _ := m.Outcome(); o.Kind != Stopped {
		t.Errorf("outcome %v", o.Kind)
	}
	if got := m.Unfinished(); len(got) > 0 {
		t.Errorf("after Run: %q", strings.Join(got, ", "))
	}
}
