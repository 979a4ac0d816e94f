package machine

import (
	"sync"
	"sync/atomic"
	"time"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/kvm"
	"vmm/trace"
)

// tracing is what a machine has to do with its being traced. While it is not,
// what could be traced looks at one pointer and goes on.
type tracing struct {
	now atomic.Pointer[tracer] // nil: nobody is interested

	mu      sync.Mutex // one Trace, or end of one, at a time
	details int        // how many of those interested want registers
}

// tracer is where records go while somebody is interested.
type tracer struct {
	*trace.Recorder
	vcpus  []*trace.Stream // of each vCPU, in order
	events *trace.Stream   // of all else
	inside []atomic.Int64  // since when each vCPU has been in KVM_RUN; 0 while it is not
	detail atomic.Bool     // exits come with registers and code
}

// Trace tells sink of every exit, interrupt and request of a queue from now on.
// With detail, exits come with registers and instructions. It ends with a call
// of what is returned, after which sink is not used any more. Times count from
// New.
func (m *Machine) Trace(sink trace.Sink, detail bool) (end func()) {
	tr := &m.tracing
	tr.mu.Lock()
	defer tr.mu.Unlock()
	t := tr.now.Load()
	if t == nil {
		t = &tracer{Recorder: trace.NewRecorder(m.start), inside: make([]atomic.Int64, len(m.cpus))}
		t.events = t.NewStream()
		for range m.cpus {
			t.vcpus = append(t.vcpus, t.NewStream())
		}
	}
	t.Add(sink)
	m.wantDetail(t, detail, 1)
	if tr.now.Swap(t) == nil {
		// A vCPU that is in the guest, perhaps for good, does not know yet.
		for _, c := range m.cpus {
			if c.running.Load() {
				c.vcpu.Kick()
			}
		}
	}
	return sync.OnceFunc(func() {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		m.wantDetail(t, detail, -1)
		if t.Remove(sink) == 0 {
			tr.now.Store(nil)
			t.Close()
		}
	})
}

func (m *Machine) wantDetail(t *tracer, detail bool, n int) {
	if detail {
		m.tracing.details += n
		t.detail.Store(m.tracing.details > 0)
	}
}

// entering notes that a vCPU is about to enter the guest.
func (t *tracer) entering(c *cpu) {
	c.record.Entered = t.Now()
	t.inside[c.vcpu.ID].Store(c.record.Entered)
	if t.detail.Load() {
		c.wantRegisters()
	}
}

// left notes why a vCPU has left the guest, before anything is done about it.
func (t *tracer) left(c *cpu, m *Machine, exit kvm.Exit) {
	t.inside[c.vcpu.ID].Store(0)
	r := &c.record
	*r = trace.Record{Kind: trace.Exit, VCPU: c.vcpu.ID, Entered: r.Entered, Time: t.Now(), Reason: exit.Reason.String()}
	c.data = nil
	switch exit.Reason {
	case kvm.ExitIO:
		io := exit.IO()
		r.Access, r.Addr, r.Write = trace.Port, uint64(io.Port), io.Write
		r.Size, r.Count = uint8(io.Size), uint32(len(io.Data)/max(io.Size, 1))
		c.data = io.Data[:min(io.Size, len(io.Data))]
		name(r, &m.ports)
	case kvm.ExitMMIO:
		io := exit.MMIO()
		r.Access, r.Addr, r.Write = trace.Memory, io.Addr, io.Write
		r.Size, r.Count = uint8(len(io.Data)), 1
		c.data = io.Data
		name(r, &m.mmio)
	}
	if t.detail.Load() {
		c.details(m, exit)
	}
	c.serving = t.Now()
}

// name finds out what an access reaches, by name.
func name(r *trace.Record, bus *devices.Bus) {
	d, device, offset := devices.Find(bus, r.Addr)
	r.Device = device
	if n, ok := d.(devices.Namer); ok {
		r.Register, r.Meaner = n.Register(offset, r.Write), n
	}
}

// served notes that an exit has been served.
func (t *tracer) served(c *cpu) {
	r := &c.record
	for i, b := range c.data { // of a read, by now what the device answered
		r.Value |= uint64(b) << (8 * i)
	}
	r.Done = r.Time + t.Now() - c.serving // without what the trace itself took
	t.vcpus[c.vcpu.ID].Put(r)
}

// put adds a record of what happened elsewhere, now.
func (t *tracer) put(r trace.Record) {
	r.Time = t.Now()
	t.events.Put(&r)
}

// observer tells the tracer of the queues of a device.
type observer struct {
	tracing *tracing
	device  string
}

var _ virtio.Observer = (*observer)(nil)

// Rung implements virtio.Observer.
func (o *observer) Rung(queue int) {
	if t := o.tracing.now.Load(); t != nil {
		t.put(trace.Record{Kind: trace.Doorbell, Device: o.device, Queue: queue})
	}
}

// Popped implements virtio.Observer.
func (o *observer) Popped(queue int, c *virtio.Chain) {
	if t := o.tracing.now.Load(); t != nil {
		t.put(trace.Record{
			Kind: trace.Pop, Device: o.device, Queue: queue, Head: c.Head(),
			Readable: c.Readable.Len(), Writable: c.Writable.Len(),
		})
	}
}

// Pushed implements virtio.Observer.
func (o *observer) Pushed(queue int, head uint16, written uint32) {
	if t := o.tracing.now.Load(); t != nil {
		t.put(trace.Record{Kind: trace.Push, Device: o.device, Queue: queue, Head: head, Written: written})
	}
}

// Uptime is the time since New, in nanoseconds: now, in a trace.
func (m *Machine) Uptime() int64 { return int64(time.Since(m.start)) }

// InGuest is how long each vCPU has been in KVM_RUN, without an exit, in nanoseconds:
// while the machine is traced, 0 otherwise.
func (m *Machine) InGuest() []int64 {
	all := make([]int64, len(m.cpus))
	if t := m.tracing.now.Load(); t != nil {
		now := t.Now()
		for i := range all {
			if since := t.inside[i].Load(); since != 0 {
				all[i] = max(now-since, 0)
			}
		}
	}
	return all
}
