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
	d.Transport.Pause()
	state, err := d.Transport.Save()
	if err != nil {
		d.t.Fatal(err)
	}
	text, err := json.Marshal(state)
	if err != nil {
		d.t.Fatal(err)
	}
	d.move(to)
	d.Transport.Pause()
	var saved virtio.TransportState
	if err := json.Unmarshal(text, &saved); err != nil {
		d.t.Fatal(err)
	}
	if err := d.Transport.Restore(saved); err != nil {
		d.t.Fatalf("%v, of %s", err, text)
	}
	d.Transport.Resume()
	return text
}
