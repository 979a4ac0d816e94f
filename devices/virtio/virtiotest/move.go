package virtiotest

import (
	"encoding/json"

	"vmm/devices/virtio"
)

// Transport is what a machine does with a transport when it is paused, saved and
// restored.
type Transport interface {
	Pause()
	Resume()
	Save() (virtio.TransportState, error)
	Restore(virtio.TransportState) error
}

// Move has the driver, which notices nothing, go on with another device of the same
// kind: the one that it has is paused and its state given to the other, as when a
// machine is saved and restored. The state is returned.
func (d *Driver) Move(to virtio.Device) []byte {
	d.t.Helper()
	text := d.State()
	if err := d.Restore(to, text); err != nil {
		d.t.Fatalf("%v, of %s", err, text)
	}
	d.Transport.Resume()
	return text
}

// State pauses the device and returns its state, as JSON.
func (d *Driver) State() []byte {
	d.t.Helper()
	d.Transport.Pause()
	state, err := d.Transport.Save()
	if err != nil {
		d.t.Fatal(err)
	}
	text, err := json.Marshal(state)
	if err != nil {
		d.t.Fatal(err)
	}
	return text
}

// Restore gives another device of the same kind a state, in which it is paused.
func (d *Driver) Restore(to virtio.Device, state []byte) error {
	d.move(to)
	d.Transport.Pause()
	var saved virtio.TransportState
	if err := json.Unmarshal(state, &saved); err != nil {
		return err
	}
	return d.Transport.Restore(saved)
}
