package machine

import "vmm/trace"

// Processor is the state of a vCPU, for people to look at.
type Processor struct {
	// State is "running", "halted" or "not started". A vCPU that runs but for a
	// pause is "running", too.
	State string `json:"state"`
	// Bits is how wide the code is that it executes: 16, 32 or 64.
	Bits int `json:"bits"`
	// Privilege is its privilege level: 0 in a kernel, 3 in a program.
	Privilege int    `json:"privilege"`
	Paging    string `json:"paging"`
	// Next is the linear address of the next instruction.
	Next      trace.Hex       `json:"next"`
	Registers []RegisterValue `json:"registers"`
	Segments  []Segment       `json:"segments"`
}

// RegisterValue is what a register of a processor holds.
type RegisterValue struct {
	Name  string    `json:"name"`
	Bits  int       `json:"bits"`
	Value trace.Hex `json:"value"`
	Flags string    `json:"flags,omitempty"` // the names of the bits that are set
}

// Segment is a segment register. Intel SDM vol. 3 §3.4.5.
type Segment struct {
	Name     string    `json:"name"`
	Selector trace.Hex `json:"selector"`
	Base     trace.Hex `json:"base"`
	Limit    trace.Hex `json:"limit"`
	Meaning  string    `json:"meaning"`
}
