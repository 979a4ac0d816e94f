package virtiotest_test

import (
	"os"
	"runtime"
	"strconv"
	"testing"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

// resets is how often each device is reset: VMM_RESETS, or a few times.
func resets(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("VMM_RESETS"))
	if err != nil {
		return 50
	}
	return n
}

// A device is reset with requests in flight in all of its queues, again and again.
// Once that is done it touches neither rings nor buffers, and in its next life every
// request is answered.
func TestResetsInFlight(t *testing.T) {
	onEach(t, func(t *testing.T, s subject, start func() *virtiotest.Driver) {
		d := start()
		buffers := []virtiotest.Buffer{d.Out(make([]byte, 64)), d.In(4096)}
		request := s.request(d)
		mark := d.Mark()
		for i := range resets(t) {
			d.Free(mark)
			d.SetUp(^virtio.Features(0))
			d.Do(s.queue, request...)
			for q, r := range d.Rings {
				for range 4 {
					if q == s.queue {
						r.Add(request...)
					} else {
						r.Add(buffers...)
					}
				}
				d.Kick(q)
			}
			for range i % 8 { // to be caught at different moments
				runtime.Gosched()
			}
			d.Reset()

			before := contents(t, d, mark, buffers[1], request)
			for range 4 {
				runtime.Gosched()
			}
			if contents(t, d, mark, buffers[1], request) != before {
				t.Fatalf("reset %d: the device writes to the guest's memory afterwards", i)
			}
		}
	})
}

// contents are the rings and buffers that a device may write to.
func contents(t *testing.T, d *virtiotest.Driver, mark uint64, b virtiotest.Buffer, request []virtiotest.Buffer) string {
	t.Helper()
	rings, err := d.Memory.Slice(mark, d.Mark()-mark)
	if err != nil {
		t.Fatal(err)
	}
	all := string(rings) + string(b.Data)
	for _, b := range request {
		all += string(b.Data)
	}
	return all
}
