// Package probe stops a guest at an instruction: it calls a function when a
// processor is about to execute it, with the processor's registers at hand.
//
// A probe is one of three things, which differ in where they work (Kind). All
// of them leave the guest as it would have been without: what they overwrite
// is put back, the instruction is executed, and the time that passes is the
// only trace.
package probe

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"vmm/kvm"
	"vmm/memory"
)

// Kind is a way to stop a guest at an instruction.
type Kind uint8

// The kinds. Doctor measures which of them a host has: what KVM promises is not
// what every host keeps.
const (
	// Port writes OUT imm8, two bytes, over the instruction. Every host has
	// it, for it is an ordinary exit; but only code at privilege level 0 may
	// execute it (or at IOPL, which is 0 in practice).
	Port Kind = iota
	// Breakpoint writes INT3, one byte, over the instruction.
	Breakpoint
	// Hardware has a debug register hold the address, which is a linear one.
	// There are MaxHardware of them, and nothing is written.
	Hardware
)

var kindNames = [...]string{"port", "breakpoint", "hardware"}

func (k Kind) String() string { return kindNames[k] }

// Watch is what a probe of kind Hardware waits for. The numbers are those of
// DR7's R/W fields. Intel SDM vol. 3 §18.2.4.
type Watch uint8

// What it waits for.
const (
	Execution Watch = 0
	Writes    Watch = 1
	Accesses  Watch = 3 // reads and writes; no processor watches reads alone
)

// MaxHardware is the number of Hardware probes at a time. Intel SDM vol. 3
// §18.2.1.
const MaxHardware = 4

// PortNumber is the port that a probe of kind Port writes to. No PC has a
// device there, and no Linux uses it for delays, as it does 0x80 and 0xed.
const PortNumber = 0xe7

// Opcodes. Intel SDM vol. 2, "OUT" and "INT n/INTO/INT3/INT1".
var (
	outImm8 = []byte{0xe6, PortNumber}
	int3    = []byte{0xcc}
)

// code is what a probe of a kind writes over the instruction.
func (k Kind) code() []byte {
	switch k {
	case Port:
		return outImm8
	case Breakpoint:
		return int3
	}
	return nil
}

// Probe is a place in the guest's code, and what to do there.
type Probe struct {
	// Kind is how it stops the guest.
	Kind Kind
	// Addr is the address of the instruction: guest-physical, and of kind
	// Hardware linear.
	Addr uint64
	// Watch, of kind Hardware, makes it a probe of the memory at Addr instead:
	// it is hit after an instruction that accesses any of Size bytes there, 1,
	// 2, 4 or 8 of them, aligned.
	Watch Watch
	Size  uint8
	// Hit is called on the vCPU's goroutine before the instruction is
	// executed. The guest stands still there until it returns; other
	// processors run. It may insert and remove probes, this one too.
	Hit func(*Hit)

	saved []byte // what is under the code
}

// Set are the probes of a machine. It may be used from any goroutine.
type Set struct {
	memory *memory.Guest
	// alone waits until no processor but the one given executes the guest's
	// instructions, and keeps it so until release is called.
	alone func(*kvm.VCPU) (release func())
	// kick makes each processor leave the guest once.
	kick func()

	mu         sync.Mutex
	written    map[uint64]*Probe // over instructions, by guest-physical address
	hardware   [MaxHardware]*Probe
	breakpoint int // number of probes of kind Breakpoint

	// version counts the changes that the vCPUs have to be told of.
	version atomic.Uint32
	used    atomic.Bool // there has been a probe
}

// Used reports whether there has been a probe in the set.
func (s *Set) Used() bool { return s.used.Load() }

// NewSet returns a set without probes. See Set for what alone and kick do.
func NewSet(mem *memory.Guest, alone func(*kvm.VCPU) (release func()), kick func()) *Set {
	return &Set{memory: mem, alone: alone, kick: kick, written: map[uint64]*Probe{}}
}

// Insert puts a probe in place. Of kind Port and Breakpoint, the instruction
// must be in memory by then, and no processor may be executing its first bytes:
// at the entry of a function that does not run, say, but behind what the kernel
// itself rewrites. Nothing may jump to the second byte of a Port probe while it
// is there.
//
// Processors inside the guest learn of a probe of kind Breakpoint and Hardware
// when they next leave it, which Insert makes them do at once.
func (s *Set) Insert(p *Probe) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used.Store(true)
	if p.Kind == Hardware {
		if p.Watch != Execution && (bits.OnesCount8(p.Size) != 1 || p.Size > 8 || p.Addr%uint64(p.Size) != 0) {
			return fmt.Errorf("probe at %#x: a debug register watches 1, 2, 4 or 8 bytes, aligned to that, and not %d", p.Addr, p.Size)
		}
		i := slices.Index(s.hardware[:], nil)
		if i < 0 {
			return fmt.Errorf("probe at %#x: all %d debug registers are in use", p.Addr, MaxHardware)
		}
		s.hardware[i] = p
		s.changed()
		return nil
	}
	code, err := s.memory.Slice(p.Addr, uint64(len(p.Kind.code())))
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	for a := p.Addr - 1; a <= p.Addr+1; a++ {
		if o := s.written[a]; o != nil && o.Addr+uint64(len(o.saved)) > p.Addr && p.Addr+uint64(len(code)) > o.Addr {
			return fmt.Errorf("probe at %#x: there is one at %#x already", p.Addr, o.Addr)
		}
	}
	p.saved = slices.Clone(code)
	s.written[p.Addr] = p
	copy(code, p.Kind.code())
	if p.Kind == Breakpoint {
		s.breakpoint++
		s.changed()
	}
	return nil
}

// Remove takes a probe away. Where the guest has since written something else
// there, that stays. A probe that is not in place is left alone.
func (s *Set) Remove(p *Probe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.hardware[:], p); i >= 0 {
		s.hardware[i] = nil
		s.changed()
		return
	}
	if s.written[p.Addr] != p {
		return
	}
	delete(s.written, p.Addr)
	s.restore(p)
	if p.Kind == Breakpoint {
		s.breakpoint--
		s.changed()
	}
}

// restore puts the instruction back. The error of Slice was Insert's to tell.
func (s *Set) restore(p *Probe) {
	code, err := s.memory.Slice(p.Addr, uint64(len(p.saved)))
	if err == nil && slices.Equal(code, p.Kind.code()) {
		copy(code, p.saved)
	}
}

// arm writes the probe's code again after restore, unless it has been removed
// or the guest has changed the instruction.
func (s *Set) arm(p *Probe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written[p.Addr] != p {
		return
	}
	code, err := s.memory.Slice(p.Addr, uint64(len(p.saved)))
	if err == nil && slices.Equal(code, p.saved) {
		copy(code, p.Kind.code())
	}
}

// Without has something done while the instructions under the probes are back in
// memory. No processor may be in the guest.
func (s *Set) Without(do func() error) error {
	s.mu.Lock()
	var probes []*Probe
	for _, p := range s.written {
		s.restore(p)
		probes = append(probes, p)
	}
	s.mu.Unlock()
	defer func() {
		for _, p := range probes {
			s.arm(p)
		}
	}()
	return do()
}

// changed has the vCPUs look at their debug registers before they next run.
func (s *Set) changed() {
	s.version.Add(1)
	s.kick()
}

// Original replaces in b, which was read at guest-physical address addr, the
// code of probes with what is under it: who looks at the guest's memory does
// not want to see them.
func (s *Set) Original(addr uint64, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, p := range s.written {
		for i, old := range p.saved {
			if off := at + uint64(i) - addr; off < uint64(len(b)) && b[off] == p.Kind.code()[i] {
				b[off] = old
			}
		}
	}
}

// at is the probe of a kind at a guest-physical address; nil for none.
func (s *Set) at(kind Kind, addr uint64) *Probe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.written[addr]; p != nil && p.Kind == kind {
		return p
	}
	return nil
}

// byRegister is the Hardware probe behind a debug exception at a linear address:
// one for the execution of what lies there, or one for an access, which DR6
// tells of. It is nil for none.
func (s *Set) byRegister(addr, dr6 uint64) *Probe {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.hardware {
		if p != nil && (p.Watch == Execution && p.Addr == addr || p.Watch != Execution && dr6>>i&1 != 0) {
			return p
		}
	}
	return nil
}

// Write writes b to guest memory, beneath the code of probes: who writes does not
// want to lose them.
func (s *Set) Write(addr uint64, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dst, err := s.memory.Slice(addr, uint64(len(b)))
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	for i, v := range b {
		if under := s.under(addr+uint64(i), dst[i]); under != nil {
			*under = v
		} else {
			dst[i] = v
		}
	}
	return nil
}

// under is the byte that the code of a probe, which is there now, has replaced at
// an address; nil where there is none.
func (s *Set) under(addr uint64, now byte) *byte {
	for at, p := range s.written {
		if off := addr - at; off < uint64(len(p.saved)) && p.Kind.code()[off] == now {
			return &p.saved[off]
		}
	}
	return nil
}

// FreeHardware is how many more probes of kind Hardware there can be.
func (s *Set) FreeHardware() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, p := range s.hardware {
		if p == nil {
			n++
		}
	}
	return n
}

// inserted reports whether a probe is in place.
func (s *Set) inserted(p *Probe) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written[p.Addr] == p || slices.Contains(s.hardware[:], p)
}

// debug is what the debug registers of a vCPU have to be for the probes but one,
// and the version of that.
func (s *Set) debug(but *Probe) (kvm.GuestDebug, uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var d kvm.GuestDebug
	for i, p := range s.hardware {
		if p != nil && p != but {
			// Enabled; R/W and LEN, which is 0 for execution. Bit 10 is always
			// set. Intel SDM vol. 3 §18.2.4.
			d.Control |= kvm.DebugEnable | kvm.DebugHardware
			d.Regs[i] = p.Addr
			d.Regs[7] |= 1<<10 | 2<<(2*i)
			if p.Watch != Execution {
				length := map[uint8]uint64{1: 0, 2: 1, 4: 3, 8: 2}[p.Size]
				d.Regs[7] |= (uint64(p.Watch) | length<<2) << (16 + 4*i)
			}
		}
	}
	if s.breakpoint > 0 {
		d.Control |= kvm.DebugEnable | kvm.DebugSoftware
	}
	return d, s.version.Load()
}
