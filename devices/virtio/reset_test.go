package virtio_test

import (
	"log/slog"
	"testing"
	"time"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
)

// stuck is an echo whose stop waits, as for a disk that does not answer.
type stuck struct {
	echo
	free chan struct{}
}

func (d *stuck) Reset() {
	if d.env != nil {
		<-d.free
	}
	d.echo.Quiesce()
}

// A reset of a device that does not stop lets its vCPU go on, and everybody else:
// the device status says that it is not complete, nothing can be set meanwhile, and
// once the device has stopped it works again.
func TestResetOfStuckDevice(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			e := &stuck{free: make(chan struct{})}
			e.holds = true
			w := &warnings{}
			d := transport.start(t, e, slog.New(w))
			d.SetUp(0)
			d.Rings[0].Add(d.In(1))
			d.Kick(0)
			for deadline := time.Now().Add(20 * time.Second); e.env.Queues[0].InFlight() == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the chain is not taken")
				}
			}

			start := time.Now()
			d.SetStatus(0)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("the reset kept its vCPU for %v", took)
			}
			start = time.Now()
			if s := d.Status(); s == 0 || s&virtiotest.StatusDriverOK != 0 {
				t.Errorf("status %#x; want it not 0, and without DRIVER_OK", s)
			}
			// Drivers that do not look find out here.
			d.SetStatus(virtiotest.StatusAcknowledge)
			d.Accept(virtio.FeatureVersion1)
			d.SetStatus(0xf)
			d.Kick(0)
			if s := d.Status(); s&virtiotest.StatusFeaturesOK != 0 {
				t.Errorf("status %#x: the device starts in the middle of its reset", s)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("the registers are not there for %v", took)
			}
			if all := w.texts(); len(all) == 0 || !containsAll(all[0], []string{"slow to stop", "1 in queue 0"}) {
				t.Errorf("warnings %q", all)
			}

			close(e.free)
			for deadline := time.Now().Add(20 * time.Second); d.Status() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("status %#x once the device has stopped", d.Status())
				}
			}
			e.holds = false
			d.SetUp(0)
			if n := d.Do(0, d.Out([]byte("again")), d.In(8)); n != 5 {
				t.Errorf("%d bytes; want 5", n)
			}
		})
	}
}
