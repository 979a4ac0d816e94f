package trace

import (
	"maps"
	"slices"
	"sync"
)

// Count is how often something came to vmm, and how long it took there.
type Count struct {
	Exits uint64 `json:"exits"`
	VMM   int64  `json:"vmm_ns"`
}

func (c Count) plus(ns int64) Count { return Count{c.Exits + 1, c.VMM + ns} }

// CPUCount is what a vCPU did, in nanoseconds.
type CPUCount struct {
	Exits uint64 `json:"exits"`
	Guest int64  `json:"guest_ns"` // in KVM_RUN: in the guest, or halted
	VMM   int64  `json:"vmm_ns"`
}

// DeviceCount is what a device did apart from being accessed.
type DeviceCount struct {
	Interrupts uint64 `json:"interrupts"` // raised, pulsed or sent
	Doorbells  uint64 `json:"doorbells"`
	Requests   uint64 `json:"requests"` // given back to the driver
}

// Totals are counts since counting began. They only grow: the difference of two
// is what happened between.
type Totals struct {
	Time    int64                  `json:"t"` // when they were taken, in nanoseconds
	Reasons map[string]Count       `json:"reasons"`
	Access  map[string]Count       `json:"access"` // by device; "" for none
	CPUs    []CPUCount             `json:"vcpus"`
	Devices map[string]DeviceCount `json:"devices"`
	Lost    uint64                 `json:"lost"`
}

// Counters is a Sink that counts.
type Counters struct {
	mu     sync.Mutex
	totals Totals
	guest  []int64 // the most that Totals has said of each vCPU
}

// NewCounters returns counters for a machine with so many vCPUs.
func NewCounters(vcpus int) *Counters {
	return &Counters{guest: make([]int64, vcpus), totals: Totals{
		Reasons: map[string]Count{}, Access: map[string]Count{}, Devices: map[string]DeviceCount{},
		CPUs: make([]CPUCount, vcpus),
	}}
}

var _ Sink = (*Counters)(nil)

// Record implements Sink.
func (c *Counters) Record(r *Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.totals
	device := t.Devices[r.Device]
	switch r.Kind {
	case Exit:
		ns := r.Done - r.Time
		t.Reasons[r.Reason] = t.Reasons[r.Reason].plus(ns)
		if r.Access != NoAccess {
			t.Access[r.Device] = t.Access[r.Device].plus(ns)
		}
		cpu := &t.CPUs[r.VCPU]
		cpu.Exits++
		cpu.Guest += r.Time - r.Entered
		cpu.VMM += ns
		return
	case Interrupt:
		if !r.Message && r.Level == Lower {
			return
		}
		device.Interrupts++
	case Doorbell:
		device.Doorbells++
	case Push:
		device.Requests++
	case Lost:
		t.Lost += r.Lost
		return
	default:
		return
	}
	t.Devices[r.Device] = device
}

// Flush implements Sink.
func (c *Counters) Flush() {}

// Totals are the counts at the time now. A vCPU that stays in the guest has no exit
// to be counted at: inGuest, if it is not nil, says how long each has been there.
func (c *Counters) Totals(now int64, inGuest func() []int64) Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.totals
	t.Time = now
	t.Reasons, t.Access, t.Devices = maps.Clone(t.Reasons), maps.Clone(t.Access), maps.Clone(t.Devices)
	t.CPUs = slices.Clone(t.CPUs)
	if inGuest == nil {
		return t
	}
	// An exit between the two looks is in neither, and in the next answer. That is
	// no reason for a count to shrink.
	for i, ns := range inGuest() {
		cpu := &t.CPUs[i]
		c.guest[i] = max(c.guest[i], cpu.Guest+ns)
		cpu.Guest = c.guest[i]
	}
	return t
}

// Since is what happened between earlier and t; its Time is how long that was.
func (t Totals) Since(earlier Totals) Totals {
	d := Totals{
		Time: t.Time - earlier.Time, Lost: t.Lost - earlier.Lost,
		Reasons: difference(t.Reasons, earlier.Reasons), Access: difference(t.Access, earlier.Access),
		Devices: map[string]DeviceCount{}, CPUs: slices.Clone(t.CPUs),
	}
	for name, n := range t.Devices {
		e := earlier.Devices[name]
		d.Devices[name] = DeviceCount{n.Interrupts - e.Interrupts, n.Doorbells - e.Doorbells, n.Requests - e.Requests}
	}
	for i := range d.CPUs {
		if i < len(earlier.CPUs) {
			e := earlier.CPUs[i]
			d.CPUs[i].Exits -= e.Exits
			d.CPUs[i].Guest -= e.Guest
			d.CPUs[i].VMM -= e.VMM
		}
	}
	return d
}

func difference(now, earlier map[string]Count) map[string]Count {
	d := map[string]Count{}
	for name, n := range now {
		e := earlier[name]
		d[name] = Count{n.Exits - e.Exits, n.VMM - e.VMM}
	}
	return d
}
