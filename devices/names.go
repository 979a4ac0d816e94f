package devices

// Namer is a Device that knows what its registers are called. Not every device
// is one.
type Namer interface {
	Device
	// Register is the name of the register that an access at offset is about
	// to reach, as its manual has it, such as "LCR"; "" where there is none. It
	// may depend on what the guest has written before: an index, or a latch.
	// The answer costs little, and is safe for concurrent use.
	Register(offset uint64, write bool) string
	// Meaning says in a few words what a value in the register of that name
	// means, and "" when the value speaks for itself. It depends on nothing
	// else: the device may have moved on.
	Meaning(register string, write bool, value uint64) string
}

// Value is what a register of a device holds.
type Value struct {
	Register string // as Namer calls it
	Offset   uint64
	Bytes    int // its width
	Value    uint64
}

// Shower is a Device whose registers can be looked at without what happens when a
// guest reads them: a byte taken from a FIFO, say, or an interrupt acknowledged.
// Not every device is one.
type Shower interface {
	Namer
	// Show is what the registers hold, in the order of a manual.
	Show() []Value
}

// Space is a Device that leads to other devices, as a bus does.
type Space interface {
	// Find is the device at offset, its name, and the offset inside it. The
	// device is nil where there is none.
	Find(offset uint64) (d Device, name string, rest uint64)
}

// Find follows spaces, from s on, to the device at offset. Its name is that of
// the innermost that has one.
func Find(s Space, offset uint64) (d Device, name string, rest uint64) {
	for {
		var inner string
		if d, inner, offset = s.Find(offset); inner != "" {
			name = inner
		}
		next, ok := d.(Space)
		if !ok {
			return d, name, offset
		}
		s = next
	}
}

// Bits says which bits of a value are set: names are those of bits 0, 1 and so
// on, "" for one without a name. It is for Meaning.
func Bits(value uint64, names ...string) string {
	text := ""
	for i, name := range names {
		if value>>i&1 == 0 || name == "" {
			continue
		}
		if text != "" {
			text += " "
		}
		text += name
	}
	return text
}
