package virtio

// Descriptor is an entry of a descriptor table, for people to look at. virtio
// §2.7.5.
type Descriptor struct {
	Addr uint64 `json:"address"` // guest-physical
	Len  uint32 `json:"length"`  // bytes
	// Write: the device writes there, and else reads. Indirect: a table of
	// descriptors is there.
	Write    bool `json:"write,omitempty"`
	Indirect bool `json:"indirect,omitempty"`
	// Next is the descriptor that follows in the chain; nil at its end.
	Next *uint16 `json:"next,omitempty"`
}

// Used is an element of a used ring: a chain that was given back, and how many
// bytes were written to it. virtio §2.7.8.
type Used struct {
	ID  uint32 `json:"id"`
	Len uint32 `json:"length"`
}

// Rings are a queue's three parts as they are in guest memory, for people to look
// at.
type Rings struct {
	QueueState
	Descriptors []Descriptor `json:"descriptor_table"`
	AvailRing   []uint16     `json:"available_ring"` // heads of chains
	UsedRing    []Used       `json:"used_ring"`
	// Cut: the queue has more entries than are here, MaxShown.
	Cut bool `json:"cut"`
}

// MaxShown is how many entries of a table or ring Rings has at the most.
const MaxShown = 1024

// Rings are those of queue i. They may be asked for at any time; while the guest
// runs, they are not of one moment. It is false where there is no such queue, or
// the driver has not set it up.
func (t *transport) Rings(i int) (Rings, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i < 0 || i >= len(t.live) || t.live[i] == nil {
		return Rings{}, false
	}
	setup, q := t.queues[i], t.live[i]
	r := Rings{QueueState: QueueState{Index: i, Size: setup.size, Enabled: setup.enabled, Desc: setup.desc, Avail: setup.avail, Used: setup.used}}
	q.state(&r.QueueState)
	n := min(q.size, MaxShown)
	r.Cut = n < q.size
	for i := range n {
		d := load(q.desc, i)
		shown := Descriptor{Addr: d.addr, Len: d.len, Write: d.flags&descWrite != 0, Indirect: d.flags&descIndirect != 0}
		if d.flags&descNext != 0 {
			shown.Next = &d.next
		}
		used := q.usedRing[8*int(i):]
		r.Descriptors = append(r.Descriptors, shown)
		r.AvailRing = append(r.AvailRing, le.Uint16(q.availRing[2*int(i):]))
		r.UsedRing = append(r.UsedRing, Used{le.Uint32(used), le.Uint32(used[4:])})
	}
	return r, true
}
