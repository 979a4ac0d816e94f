//go:build amd64

package tiny

import (
	"encoding/binary"

	"vmm/kvm"
)

// What LongMode puts into the guest's memory.
const (
	gdtAddr = 0x500
	pml4    = 0x10_0000
	pdpt    = pml4 + 0x1000
	pd      = pdpt + 0x1000 // and three more
)

// LongMode puts the first processor into 64-bit mode, with the first 4 GiB mapped
// to themselves: the state that example 02 reaches by itself.
func (m *VM) LongMode() error {
	le := binary.LittleEndian
	const present, writable, large = 1 << 0, 1 << 1, 1 << 7 // Intel SDM vol. 3 §4.5
	le.PutUint64(m.RAM[pml4:], pdpt|present|writable)
	for i := range uint64(4) {
		le.PutUint64(m.RAM[pdpt+8*i:], (pd+0x1000*i)|present|writable)
	}
	for i := range uint64(4 * 512) {
		le.PutUint64(m.RAM[pd+8*i:], i<<21|present|writable|large)
	}
	// Code and data, privilege level 0. Intel SDM vol. 3 §3.4.5.
	le.PutUint64(m.RAM[gdtAddr+8:], 0x00af_9b00_0000_ffff)
	le.PutUint64(m.RAM[gdtAddr+16:], 0x00cf_9300_0000_ffff)

	s, err := m.CPUs[0].Sregs()
	if err != nil {
		return err
	}
	s.CS = kvm.Segment{Selector: 8, Limit: 0xffff_ffff, Type: 0xb, Present: 1, S: 1, L: 1, G: 1}
	data := kvm.Segment{Selector: 16, Limit: 0xffff_ffff, Type: 3, Present: 1, S: 1, DB: 1, G: 1}
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
	s.TR = kvm.Segment{Limit: 0x67, Type: 0xb, Present: 1}
	s.LDT = kvm.Segment{Unusable: 1}
	s.GDT = kvm.DTable{Base: gdtAddr, Limit: 3*8 - 1}
	s.CR0 = 1<<31 | 1<<5 | 1<<4 | 1<<0 // PG, NE, ET, PE
	s.CR3 = pml4
	s.CR4 = 1 << 5        // PAE
	s.EFER = 1<<10 | 1<<8 // LMA, LME
	return m.CPUs[0].SetSregs(s)
}
