package virtiotest_test

import (
	"runtime"
	"testing"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

// load makes the request available a few times, and others' buffers in the other
// queues, and returns the heads of the requests.
func load(d *virtiotest.Driver, s subject, request []virtiotest.Buffer, fill bool, buffers []virtiotest.Buffer) map[uint16]bool {
	heads := map[uint16]bool{}
	for q, r := range d.Rings {
		for range 4 {
			switch {
			case q == s.queue:
				heads[r.Add(request...)] = true
			case fill:
				r.Add(buffers...)
			}
		}
		d.Kick(q)
	}
	return heads
}

// answered waits until each of the requests has been given back, once.
func answered(t *testing.T, d *virtiotest.Driver, s subject, heads map[uint16]bool) {
	t.Helper()
	for len(heads) > 0 {
		head, _ := d.Wait(s.queue)
		if !heads[head] {
			t.Fatalf("chain %d comes back and was not sent, or comes twice", head)
		}
		delete(heads, head)
	}
}

// A device is paused with requests in flight in all of its queues, again and again.
// Meanwhile it touches neither rings nor buffers; afterwards every request is answered
// once.
func TestPauseInFlight(t *testing.T) {
	onEach(t, func(t *testing.T, s subject, start func() *virtiotest.Driver) {
		d := start()
		buffers := []virtiotest.Buffer{d.Out(make([]byte, 64)), d.In(4096)}
		request := s.request(d)
		mark := d.Mark()
		d.SetUp(^virtio.Features(0))
		for i := range resets(t) {
			heads := load(d, s, request, i == 0, buffers)
			for range i % 8 { // to be caught at different moments
				runtime.Gosched()
			}
			d.Transport.Pause()
			d.Kick(s.queue) // which nobody hears
			before := contents(t, d, mark, buffers[1], request)
			for range 4 {
				runtime.Gosched()
			}
			if contents(t, d, mark, buffers[1], request) != before {
				t.Fatalf("pause %d: the device writes to the guest's memory", i)
			}
			d.Transport.Resume()
			answered(t, d, s, heads)
		}
	})
}

// A device hands over to another, with requests in flight and with some that it has
// not seen yet, again and again. Each request is answered once, by either of the two.
func TestMoveInFlight(t *testing.T) {
	onEach(t, func(t *testing.T, s subject, start func() *virtiotest.Driver) {
		for _, features := range []virtio.Features{0, ^virtio.Features(0)} {
			d := start()
			buffers := []virtiotest.Buffer{d.Out(make([]byte, 64)), d.In(4096)}
			request := s.request(d)
			d.SetUp(features)
			for i := range resets(t) {
				heads := load(d, s, request, i == 0, buffers)
				for range i % 8 {
					runtime.Gosched()
				}
				d.Move(s.open(t))
				answered(t, d, s, heads)
			}
		}
	})
}
