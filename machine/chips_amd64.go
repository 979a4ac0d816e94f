package machine

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strings"

	"vmm/devices"
	"vmm/kvm"
	"vmm/trace"
)

var le = binary.LittleEndian

// chips are the interrupt controllers and the timer, which are KVM's.
func (m *Machine) chips(vcpu int) ([]Shown, error) {
	var local kvm.LAPIC
	if err := m.onCPU(vcpu, func(c *cpu) (err error) {
		local, err = c.vcpu.LAPIC()
		return err
	}); err != nil {
		return nil, err
	}
	io, err := m.vm.IRQChip(kvm.IOAPIC)
	if err != nil {
		return nil, err
	}
	all := []Shown{showLAPIC(vcpu, local), showIOAPIC(io)}
	for _, pic := range []struct {
		chip kvm.IRQChip
		name string
		port string
	}{{kvm.PICMaster, "PIC, master", "port 0x20"}, {kvm.PICSlave, "PIC, slave", "port 0xa0"}} {
		s, err := m.vm.IRQChip(pic.chip)
		if err != nil {
			return nil, err
		}
		all = append(all, Shown{Name: pic.name, Where: pic.port, Kind: "KVM", Registers: showPIC(s)})
	}
	if s, err := m.vm.PIT(); err == nil { // there is none before the guest asks for it
		all = append(all, showPIT(s))
	}
	return all, nil
}

// lapicRegisters are the registers of a local APIC. Intel SDM vol. 3 table 11-1.
var lapicRegisters = []struct {
	offset uint64
	name   string
}{
	{0x20, "ID"}, {0x30, "version"}, {0x80, "TPR"}, {0xa0, "PPR"}, {0xd0, "LDR"}, {0xe0, "DFR"}, {0xf0, "SVR"},
	{0x280, "ESR"}, {0x300, "ICR"}, {0x310, "ICR high"}, {0x320, "LVT timer"}, {0x330, "LVT thermal"}, {0x340, "LVT performance"},
	{0x350, "LVT LINT0"}, {0x360, "LVT LINT1"}, {0x370, "LVT error"},
	{0x380, "initial count"}, {0x390, "current count"}, {0x3e0, "divide"},
}

func showLAPIC(vcpu int, l kvm.LAPIC) Shown {
	s := Shown{Name: fmt.Sprintf("local APIC of vCPU %d", vcpu), Where: "0xfee00000", Kind: "KVM"}
	for _, r := range lapicRegisters {
		v := le.Uint32(l.Regs[r.offset:])
		meaning := ""
		switch {
		case strings.HasPrefix(r.name, "LVT"):
			meaning = lvtMeaning(r.name, v)
		case r.name == "ID":
			meaning = fmt.Sprint(v >> 24)
		case r.name == "SVR":
			meaning = fmt.Sprintf("vector %#x %s", v&0xff, devices.Bits(uint64(v>>8), "enabled"))
		}
		s.Registers = append(s.Registers, ShownRegister{r.name, trace.Hex(r.offset), 4, trace.Hex(v), meaning})
	}
	// Each has 256 bits, one a vector.
	for _, r := range []struct {
		offset int
		name   string
	}{{0x100, "ISR"}, {0x180, "TMR"}, {0x200, "IRR"}} {
		var vectors []string
		for v := range 256 {
			if le.Uint32(l.Regs[r.offset+v/32*16:])>>(v%32)&1 != 0 {
				vectors = append(vectors, fmt.Sprintf("%#x", v))
			}
		}
		s.Registers = append(s.Registers, ShownRegister{
			Name: r.name, Offset: trace.Hex(r.offset), Bytes: 4, Value: trace.Hex(le.Uint32(l.Regs[r.offset:])),
			Meaning: "vectors: " + cmp.Or(strings.Join(vectors, " "), "none"),
		})
	}
	return s
}

// deliveryModes are how an interrupt reaches a processor. Intel SDM vol. 3
// §11.5.1.
var deliveryModes = [...]string{"fixed", "lowest priority", "SMI", "reserved", "NMI", "INIT", "start-up", "ExtINT"}

// lvtMeaning says what an entry of the local vector table means. Intel SDM vol. 3
// §11.5.1.
func lvtMeaning(name string, v uint32) string {
	words := []string{fmt.Sprintf("vector %#x", v&0xff)}
	if name == "LVT timer" {
		words = append(words, [...]string{"one-shot", "periodic", "TSC deadline", "reserved"}[v>>17&3])
	} else {
		words = append(words, deliveryModes[v>>8&7])
	}
	if v>>16&1 != 0 {
		words = append(words, "masked")
	}
	return strings.Join(words, ", ")
}

// showIOAPIC decodes struct kvm_ioapic_state of <asm/kvm.h>. The entries are those
// of the 82093AA data sheet, "I/O Redirection Table Registers".
// ioAPICTable is where struct kvm_ioapic_state of <asm/kvm.h> has the redirection
// table.
const ioAPICTable = 24

func showIOAPIC(c kvm.IRQChipState) Shown {
	const base, id, irr = 0, 12, 16
	s := Shown{Name: "I/O APIC", Where: fmt.Sprintf("%#x", le.Uint64(c.Data[base:])), Kind: "KVM", Registers: []ShownRegister{
		{Name: "ID", Bytes: 4, Value: trace.Hex(le.Uint32(c.Data[id:]))},
		{Name: "inputs that wait", Bytes: 4, Value: trace.Hex(le.Uint32(c.Data[irr:]))},
	}}
	for i := range ioAPICPins {
		v := le.Uint64(c.Data[ioAPICTable+8*i:])
		words := []string{fmt.Sprintf("vector %#x", v&0xff), deliveryModes[v>>8&7]}
		if v>>11&1 != 0 {
			words = append(words, fmt.Sprintf("to logical %#x", v>>56))
		} else {
			words = append(words, fmt.Sprintf("to local APIC %d", v>>56))
		}
		words = append(words, [...]string{"edge", "level"}[v>>15&1], [...]string{"active high", "active low"}[v>>13&1])
		if ioAPICMasked(c, i) {
			words = append(words, "masked")
		}
		s.Registers = append(s.Registers, ShownRegister{
			Name: fmt.Sprintf("input %d", i), Offset: trace.Hex(0x10 + 2*i), Bytes: 8, Value: trace.Hex(v), Meaning: strings.Join(words, ", "),
		})
	}
	return s
}

// picIMR is where struct kvm_pic_state of <asm/kvm.h> has the interrupt mask.
const picIMR = 2

// showPIC decodes struct kvm_pic_state of <asm/kvm.h>.
func showPIC(c kvm.IRQChipState) []ShownRegister {
	var all []ShownRegister
	for _, r := range []struct {
		at   int
		name string
	}{{1, "IRR"}, {picIMR, "IMR"}, {3, "ISR"}, {5, "vector base"}, {14, "ELCR"}} {
		meaning := ""
		if r.name != "vector base" {
			var inputs []string
			for i := range 8 {
				if c.Data[r.at]>>i&1 != 0 {
					inputs = append(inputs, fmt.Sprint(i))
				}
			}
			meaning = strings.Join(inputs, " ")
		}
		all = append(all, ShownRegister{Name: r.name, Bytes: 1, Value: trace.Hex(c.Data[r.at]), Meaning: meaning})
	}
	return all
}

func showPIT(p kvm.PITState) Shown {
	s := Shown{Name: "PIT", Where: fmt.Sprintf("port %#x", portPIT), Kind: "KVM"}
	for i, c := range p.Channels {
		s.Registers = append(s.Registers, ShownRegister{
			Name: fmt.Sprintf("channel %d", i), Offset: trace.Hex(i), Bytes: 2, Value: trace.Hex(c.Count),
			Meaning: fmt.Sprintf("mode %d, gate %d", c.Mode, c.Gate),
		})
	}
	return s
}
