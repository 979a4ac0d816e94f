package virtio

// Observer is told what happens in the queues of a device. Its methods are
// called by workers, concurrently, in the middle of their work.
type Observer interface {
	// Rung: the driver rang the doorbell, and the queue's worker has woken.
	Rung(queue int)
	// Popped: the device took a chain.
	Popped(queue int, c *Chain)
	// Pushed: the device gave the chain with this head back.
	Pushed(queue int, head uint16, written uint32)
}

// QueueState is how a queue stands, for people to look at.
type QueueState struct {
	Index   int    `json:"queue"`
	Size    uint16 `json:"size"`    // in descriptors
	Enabled bool   `json:"enabled"` // by the driver
	Active  bool   `json:"active"`  // in use by the device
	// Guest-physical addresses of descriptor table, available ring (the
	// driver's) and used ring (the device's).
	Desc  uint64 `json:"descriptors"`
	Avail uint64 `json:"available"`
	Used  uint64 `json:"used"`
	// AvailIdx and UsedIdx count, modulo 65536, the chains that the driver has
	// made available and that the device has given back. virtio §2.7.6, §2.7.8.
	AvailIdx uint16 `json:"available_index"`
	UsedIdx  uint16 `json:"used_index"`
	// Depth is how many chains the device has not given back.
	Depth uint16 `json:"depth"`
	// UsedEvent and AvailEvent are the indices at which the driver wants an
	// interrupt and the device a doorbell. virtio §2.7.7, §2.7.10.
	UsedEvent  uint16 `json:"used_event"`
	AvailEvent uint16 `json:"available_event"`
}

// State is how a device stands, for people to look at.
type State struct {
	Name     string       `json:"name"`
	Type     string       `json:"type"`
	Status   string       `json:"status"` // the driver's steps, virtio §2.1
	Offered  Features     `json:"offered"`
	Accepted Features     `json:"accepted"`
	Queues   []QueueState `json:"queues"`
}

// State may be called at any time. While the guest runs, the indices of a queue
// are not of the same moment.
func (t *transport) State() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := State{
		Name: t.name, Type: t.info.Type.String(), Status: statusNames(uint64(t.status.Load())),
		Offered: t.offers, Accepted: t.accepted,
	}
	for i, setup := range t.queues {
		q := QueueState{Index: i, Size: setup.size, Enabled: setup.enabled, Desc: setup.desc, Avail: setup.avail, Used: setup.used}
		if t.live != nil && t.live[i] != nil {
			t.live[i].state(&q)
		}
		s.Queues = append(s.Queues, q)
	}
	return s
}

// state fills in what the rings say.
func (q *Queue) state(s *QueueState) {
	s.Active = true
	s.UsedIdx = uint16(q.used.Load() >> 16)
	s.AvailIdx = q.availIdx.Load()
	s.Depth = s.AvailIdx - s.UsedIdx
	s.UsedEvent, s.AvailEvent = q.usedEvent.Load(), q.availEvent.Load()
}
