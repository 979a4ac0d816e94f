package net

import (
	"vmm/devices/virtio"
)

// Commands of the control queue. virtio §5.1.6.5.
const (
	classRX       = 0
	classMAC      = 1
	classMQ       = 4
	classOffloads = 5

	macTableSet = 0
	macAddrSet  = 1
	mqPairsSet  = 0
	offloadsSet = 0

	ack    = 0
	refuse = 1
)

// controller serves the control queue.
type controller struct {
	device *Device
	queue  *virtio.Queue
	chain  virtio.Chain
}

func (c *controller) serve() {
	for c.queue.Pop(&c.chain) {
		answer := c.chain.Writable.CutLast()
		written := uint32(0)
		if answer != nil {
			answer[0] = c.command()
			written = 1
		}
		c.queue.Push(&c.chain, written)
		c.queue.Notify()
	}
}

func (c *controller) command() byte {
	var head [2]byte
	in := &c.chain.Readable
	if in.Read(head[:]) < len(head) {
		return refuse
	}
	d := c.device
	ok := false
	switch head {
	case [2]byte{classMAC, macAddrSet}:
		var mac [6]byte
		if ok = in.Read(mac[:]) == len(mac); ok {
			d.mu.Lock()
			copy(d.space[configMAC:], mac[:])
			d.mu.Unlock()
		}
	case [2]byte{classMAC, macTableSet}:
		ok = true // the card takes every frame that reaches it: no need for a filter
	case [2]byte{classMQ, mqPairsSet}:
		var pairs [2]byte
		n := in.Read(pairs[:])
		count := int(le.Uint16(pairs[:]))
		ok = n == len(pairs) && count >= 1 && count <= len(d.fds) && d.usePairs(count) == nil
	case [2]byte{classOffloads, offloadsSet}:
		var bits [8]byte
		n := in.Read(bits[:])
		f := virtio.Features(le.Uint64(bits[:]))
		ok = n == len(bits) && f&^offloads == 0 && d.setOffloads(f) == nil
		if ok {
			d.mu.Lock()
			d.offloads = &f
			d.mu.Unlock()
		}
	default:
		ok = head[0] == classRX && head[1] <= 5 // promiscuous and the like: it is, always
	}
	if ok {
		return ack
	}
	return refuse
}

// usePairs has the first n pairs of queues take part.
func (d *Device) usePairs(n int) error {
	err := d.config.Port.SetQueues(n)
	if err == nil {
		d.mu.Lock()
		d.pairs = n
		d.mu.Unlock()
	}
	for _, w := range d.receivers {
		w.Wake()
	}
	return err
}
