package trace

import "strconv"

// Event is a Record that has been made sense of: what a trace file holds. Times
// and durations are in nanoseconds.
type Event struct {
	Time   int64  `json:"t"` // since the start of vmm; of an exit, when the guest was left
	Kind   string `json:"kind"`
	Device string `json:"device,omitempty"`

	// Of an exit:
	VCPU   *int   `json:"vcpu,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Guest is the time in the guest before the exit, VMM the time that it took
	// to serve. The former includes what KVM did by itself.
	Guest    int64  `json:"guest_ns,omitempty"`
	VMM      int64  `json:"vmm_ns,omitempty"`
	RIP      *Hex   `json:"rip,omitempty"` // of the instruction
	Symbol   string `json:"symbol,omitempty"`
	Insn     string `json:"instruction,omitempty"` // in Intel's syntax
	Port     *Hex   `json:"port,omitempty"`
	Addr     *Hex   `json:"address,omitempty"`
	Register string `json:"register,omitempty"`
	Op       string `json:"op,omitempty"` // "read" or "write"
	Size     int    `json:"size,omitempty"`
	Count    uint32 `json:"count,omitempty"` // of a string instruction
	Value    *Hex   `json:"value,omitempty"`
	Meaning  string `json:"meaning,omitempty"`

	// Of an interrupt:
	GSI     *uint32 `json:"gsi,omitempty"`
	Level   string  `json:"level,omitempty"` // "raise", "lower" or "pulse"
	MSIAddr *Hex    `json:"msi_address,omitempty"`
	MSIData *Hex    `json:"msi_data,omitempty"`

	// Of doorbell, pop and push:
	Queue    *int    `json:"queue,omitempty"`
	Head     *uint16 `json:"head,omitempty"`
	Readable uint64  `json:"readable,omitempty"` // bytes
	Writable uint64  `json:"writable,omitempty"`
	Written  uint32  `json:"written,omitempty"`
	// Waited is how long a popped request has waited since the doorbell, and
	// Took how long a pushed one has been with the device.
	Waited int64 `json:"waited_ns,omitempty"`
	Took   int64 `json:"took_ns,omitempty"`

	// Of lost: how many records were dropped.
	Lost uint64 `json:"lost,omitempty"`
}

// Hex is a number that is written in hexadecimal, in JSON as a string: numbers of
// 64 bits are more than most readers of JSON hold.
type Hex uint64

func (h Hex) String() string { return "0x" + strconv.FormatUint(uint64(h), 16) }

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 0, 64)
	*h = Hex(n)
	return err
}

func hex(n uint64) *Hex { h := Hex(n); return &h }

// Symbols are the names of addresses of the guest's kernel.
type Symbols interface {
	// Symbol is the name of the function that holds an address, and how far
	// into it that is. It is "" where there is none.
	Symbol(addr uint64) (name string, offset uint64)
}
