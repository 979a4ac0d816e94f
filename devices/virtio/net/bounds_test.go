package net_test

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"vmm/devices/virtio/virtiotest"
)

// A chain that holds no part of a frame comes back with nothing in it, and the
// frames go into those that do.
func TestReceiveIntoNothing(t *testing.T) {
	p := newPort(t, 1)
	d := virtiotest.Start(t, newCard(t, p), all)
	frame := bytes.Repeat([]byte{0xab}, 900)
	for range 20 {
		var useless []uint16
		for range 60 {
			useless = append(useless, d.Rings[0].Add(d.Out(make([]byte, 4))))
		}
		buffer := d.In(2000)
		head := d.Rings[0].Add(buffer)
		d.Kick(0)
		for _, want := range useless {
			if got, n := d.Wait(0); got != want || n != 0 {
				t.Fatalf("chain %d came back with %d bytes; want %d with none", got, n, want)
			}
		}
		p.give(t, 0, frame)
		if got, n := d.Wait(0); got != head || int(n) != headerSize+len(frame) || !bytes.Equal(buffer.Data[headerSize:n], frame) {
			t.Fatalf("chain %d came back with %d bytes", got, n)
		}
	}
}

// What the receive queues hold of the host's memory has a bound, also when each of
// the chains is as long as it may be and of the smallest pieces.
func TestReceiveFlood(t *testing.T) {
	const pairs, pieces = 16, 256
	d := virtiotest.Start(t, newCard(t, newPort(t, pairs)), all)
	mq := d.In(1)
	d.Do(2*pairs, d.Out([]byte{4, 0, pairs, 0}), mq)
	if mq.Data[0] != 0 {
		t.Fatal("the card does not take all its queues into use")
	}
	table := d.In(16 * pieces)
	byteOf := d.In(1)
	for i := range uint16(pieces) {
		flags := uint16(virtiotest.Write)
		if i < pieces-1 {
			flags |= virtiotest.Next
		}
		virtiotest.PutDesc(table.Data[16*i:], byteOf.Addr, 1, flags, i+1)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := 0; i < 2*pairs; i += 2 {
		r := d.Rings[i]
		for head := range uint16(r.Size) {
			r.SetDesc(head, table.Addr, uint32(len(table.Data)), virtiotest.Indirect, 0)
			r.Offer(head)
		}
		d.Kick(i)
	}
	time.Sleep(200 * time.Millisecond)
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d KiB are held", grown>>10)
	if grown > 2<<20 {
		t.Error("that is too much")
	}
	if s := d.Status(); s&virtiotest.StatusNeedsReset != 0 {
		t.Errorf("status %#x", s)
	}
}
