package machine

import (
	"context"
	"errors"
	"fmt"

	"vmm/boot"
	"vmm/boot/kallsyms"
	"vmm/kvm"
	"vmm/memory"
	"vmm/paging"
)

// msrLSTAR holds the address of the kernel's entry for system calls. Intel SDM
// vol. 4, table 2-2, IA32_LSTAR.
const msrLSTAR = 0xc000_0082

var errNoKernel = errors.New("there is no Linux kernel in the guest's memory yet")

// KernelSymbols are the symbols of the guest's Linux kernel, which the kernel
// holds itself. They are found in its memory: where vmm has put it, or else where
// its entry for system calls leads or, before that is known, what it executes;
// whoever loaded it and chose its addresses. The processors are held only to ask
// where it is: the search takes long when a guest makes it. It is over before Close
// may be called.
func (m *Machine) KernelSymbols(ctx context.Context) (*kallsyms.Table, error) {
	var image []byte
	var start uint64
	where := func(c *cpu) (err error) {
		image, start, err = m.kernelImage(c)
		return err
	}
	err := m.onCPU(0, where)
	if errors.Is(err, errEnded) {
		err = where(m.cpus[0]) // nobody runs it any more
	}
	if err != nil {
		return nil, err
	}
	return kallsyms.Find(ctx, image, start)
}

// kernelImage is the memory that the kernel lies in, and the virtual address of
// its start.
func (m *Machine) kernelImage(c *cpu) (image []byte, start uint64, err error) {
	if start, ok := m.kernelStart(); ok {
		image, err = m.memory.Slice(m.entry.Kernel.Start, m.entry.Kernel.Size)
		return image, start, err
	}
	lstar := []kvm.MSREntry{{Index: msrLSTAR}}
	if err := c.vcpu.MSRs(lstar); err != nil {
		return nil, 0, err
	}
	regs, err := c.vcpu.Regs()
	if err != nil {
		return nil, 0, err
	}
	s, err := c.vcpu.Sregs()
	if err != nil {
		return nil, 0, err
	}
	for _, addr := range []uint64{lstar[0].Data, regs.RIP} {
		if addr < boot.LinkBase || addr >= modulesBase {
			continue
		}
		w, err := paging.Translate(m.memory, pagingState(s), addr)
		if err != nil {
			return nil, 0, err
		}
		if w.Mapped {
			image, first, err := m.around(w.Physical)
			return image, addr - (w.Physical - first), err
		}
	}
	return nil, 0, errNoKernel
}

// modulesBase is where Linux's modules begin, behind the room for its own image.
// Documentation/arch/x86/x86_64/mm.rst.
const modulesBase = 0xffff_ffff_c000_0000

// kernelStart is the virtual address of the kernel's first byte, where vmm has
// put the kernel in its place. One that unpacks itself chooses its own.
func (m *Machine) kernelStart() (uint64, bool) {
	e := &m.entry
	return boot.LinkBase + e.Kernel.Start - e.Offset + e.Slide, !e.Unpacks() && e.Protocol != boot.Multiboot
}

// around is memory on both sides of an address in the kernel: all of the kernel
// is among it.
func (m *Machine) around(addr uint64) (image []byte, start uint64, err error) {
	const reach, align = 128 << 20, 2 << 20
	for _, r := range m.memory.Regions() {
		if r.Contains(addr, 1) {
			start = max(addr&^(align-1), r.Start+reach) - reach
			image, err = m.memory.Slice(start, min(2*reach, r.End()-start))
			return image, start, err
		}
	}
	return nil, 0, fmt.Errorf("the kernel: %w", &memory.RangeError{Addr: addr, Size: 1})
}

// KernelVirtual is the virtual address of a physical one in a kernel that vmm has put
// in its place: where the kernel begins, it runs at the physical ones.
func (m *Machine) KernelVirtual(physical uint64) (uint64, bool) {
	start, ok := m.kernelStart()
	off := physical - m.entry.Kernel.Start
	return start + off, ok && off < m.entry.Kernel.Size
}

// kernelAddress is the physical address of a virtual one in a kernel that vmm has
// put in its place, also while the kernel has not mapped it yet.
func (m *Machine) kernelAddress(linear uint64) (uint64, bool) {
	start, ok := m.kernelStart()
	off := linear - start
	return m.entry.Kernel.Start + off, ok && off < m.entry.Kernel.Size
}
