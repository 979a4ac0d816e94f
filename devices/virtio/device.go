package virtio

import (
	"fmt"
	"log/slog"

	"vmm/memory"
)

// Type is a kind of device. virtio §5.
type Type uint16

// The kinds of device that vmm has.
const (
	TypeNet     Type = 1
	TypeBlock   Type = 2
	TypeConsole Type = 3
	TypeEntropy Type = 4
	TypeBalloon Type = 5
	Type9P      Type = 9
	TypeVsock   Type = 19
)

func (t Type) String() string {
	switch t {
	case TypeNet:
		return "net"
	case TypeBlock:
		return "blk"
	case TypeConsole:
		return "console"
	case TypeEntropy:
		return "rng"
	case TypeBalloon:
		return "balloon"
	case Type9P:
		return "9p"
	case TypeVsock:
		return "vsock"
	}
	return fmt.Sprintf("type %d", uint16(t))
}

// Features is a set of feature bits. Those up to 23 and from 50 to 127 belong
// to the device's type, the others to queues and transports. virtio §2.2.
type Features uint64

// Features of queues and transports. virtio §6.
const (
	FeatureIndirect Features = 1 << 28 // VIRTIO_F_INDIRECT_DESC
	FeatureEventIdx Features = 1 << 29 // VIRTIO_F_EVENT_IDX
	FeatureVersion1 Features = 1 << 32 // VIRTIO_F_VERSION_1
)

// Info is what a device is. It never changes.
type Info struct {
	Type     Type
	Features Features // of its type; those of the queues come from the transport
	// Queues are the sizes of its queues at the largest, each a power of 2.
	Queues []uint16
}

// Device is a virtio device without its transport. The transport locks: it
// makes one call at a time, except that ReadConfig and WriteConfig may run
// beside each other and beside Reset.
//
// A device that has more to keep than its queues, from Activate to Reset, is a
// [devices.Stateful] too. It is asked for its state, and given one, while it is
// not active.
type Device interface {
	// Info says what the device is.
	Info() Info
	// ReadConfig and WriteConfig are accesses to the configuration space of
	// the device's type, as to devices.Device.
	ReadConfig(offset uint64, data []byte)
	WriteConfig(offset uint64, data []byte)
	LifeCycle
}

// LifeCycle is what becomes of a device: Activate and Quiesce in turn, as often as
// the machine is paused; then Reset, after which the driver may begin anew; and in
// the end Close.
type LifeCycle interface {
	// Activate starts the device: the driver has set it up, or the machine goes
	// on after Quiesce. An error leaves it inactive, in need of a reset.
	Activate(*Env) error
	// Quiesce stops the device and forgets nothing. When it returns, nothing of
	// the device touches the queues or guest memory any more: what had begun is
	// complete, and what had not is back in the queues ([Queue.Unpop]). It takes
	// as long as what stands behind the device takes.
	Quiesce()
	// Reset stops the device and forgets what the driver set. When it
	// returns, nothing of the device touches the queues or guest memory any
	// more. A device that was never activated is reset too. It may take as long as
	// what stands behind the device takes; the guest and the machine's end wait
	// only for a while.
	Reset()
	// Close lets go of what is behind the device. It comes after Reset.
	Close() error
}

// Env is what a driver has set up for its device, from Activate to Reset.
type Env struct {
	Memory *memory.Guest
	// Features are those that both driver and device have.
	Features Features
	// Queues has an entry for each of Info.Queues; nil for one that the
	// driver does not use.
	Queues []*Queue
	// ConfigChanged tells the driver that the configuration space has
	// changed. virtio §2.5. It may be called from any goroutine, and is
	// called with the lock held that ReadConfig takes, so that the driver
	// cannot read a part of the change without noticing.
	ConfigChanged func()
	Log           *slog.Logger
}

// Has reports whether driver and device agreed on all of f.
func (e *Env) Has(f Features) bool { return e.Features&f == f }

// ReadConfig answers a read of a configuration space that holds space: ones
// beyond its end.
func ReadConfig(space []byte, offset uint64, data []byte) {
	if offset < uint64(len(space)) {
		copy(data, space[offset:])
	}
}
