package virtio

// Pause stops the device's workers until Resume: what they have begun is complete
// then, and nothing of the device touches guest memory. It waits for a reset that is
// under way, and for what stands behind the device. No vCPU may be in the guest.
func (t *transport) Pause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.resetting != nil {
		done := t.resetting
		t.mu.Unlock()
		<-done
		t.mu.Lock()
	}
	if t.paused {
		return
	}
	t.paused = true
	if t.active {
		t.device.Quiesce()
	}
}

// Resume has the device go on after Pause. Each queue is looked at once, whether its
// doorbell has rung or not.
func (t *transport) Resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.paused {
		return
	}
	t.paused = false
	if !t.active || t.resetting != nil {
		return
	}
	if err := t.start(); err != nil {
		t.needReset(err)
		return
	}
	if t.restored {
		t.restored = false
		t.interruptAll()
	}
}

// interruptAll interrupts the driver once for each queue: an interrupt that was on its
// way when the machine was saved is in nobody's state. One too many does no harm.
func (t *transport) interruptAll() {
	for i, q := range t.live {
		if q != nil {
			t.interrupts.queue(i).Signal()
		}
	}
}
