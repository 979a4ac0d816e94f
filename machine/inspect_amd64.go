package machine

import (
	"vmm/boot"
	"vmm/boot/acpi"
	"vmm/cpuid"
	"vmm/kvm"
	"vmm/memory"
	"vmm/paging"
)

// kvmAreas are the parts of memory that KVM answers for, or keeps for itself.
func kvmAreas() []Area {
	const ioAPIC, localAPIC = 0xfec0_0000, 0xfee0_0000
	return []Area{
		{Range: memory.Range{Start: ioAPIC, Size: memory.PageSize}, Name: "I/O APIC", Kind: "KVM"},
		{Range: memory.Range{Start: localAPIC, Size: memory.PageSize}, Name: "local APIC, each vCPU's own", Kind: "KVM"},
		{Range: memory.Range{Start: identityMapAddr, Size: memory.PageSize}, Name: "identity map, on Intel hosts", Kind: "KVM"},
		{Range: memory.Range{Start: tssAddr, Size: 3 * memory.PageSize}, Name: "task state, on Intel hosts", Kind: "KVM"},
	}
}

// kvmPorts are the ports that KVM has answered for from the beginning.
func kvmPorts() []Area {
	return []Area{
		{Range: memory.Range{Start: 0x20, Size: 2}, Name: "PIC, master", Kind: "KVM"},
		{Range: memory.Range{Start: 0xa0, Size: 2}, Name: "PIC, slave", Kind: "KVM"},
		{Range: memory.Range{Start: 0x4d0, Size: 2}, Name: "PIC, edge or level", Kind: "KVM"},
	}
}

// ACPI are the firmware's tables, as they are in guest memory now.
func (m *Machine) ACPI() ([]acpi.Found, error) { return acpi.Read(m.memory, boot.FirmwareAddr) }

// Translate walks a vCPU's page tables for a linear address. The processors are
// held meanwhile.
func (m *Machine) Translate(id int, linear uint64) (w paging.Walk, err error) {
	err = m.withPaging(id, func(s paging.State) error {
		w, err = paging.Translate(m.memory, s, linear)
		return err
	})
	return w, err
}

// Mappings calls f with what a vCPU's page tables map, as paging.Ranges does. The
// processors are held meanwhile.
func (m *Machine) Mappings(id int, f func(paging.Range) bool) (mode paging.Mode, complete bool, err error) {
	err = m.withPaging(id, func(s paging.State) error {
		mode, complete = s.Mode(), paging.Ranges(m.memory, s, f)
		return nil
	})
	return mode, complete, err
}

func (m *Machine) withPaging(id int, do func(paging.State) error) error {
	return m.onCPU(id, func(c *cpu) error {
		s, err := c.vcpu.Sregs()
		if err != nil {
			return err
		}
		return do(pagingState(s))
	})
}

func pagingState(s kvm.Sregs) paging.State {
	return paging.State{CR0: s.CR0, CR3: s.CR3, CR4: s.CR4, EFER: s.EFER}
}

// CPUID is what CPUID says on a vCPU. The processors are held meanwhile.
func (m *Machine) CPUID(id int) ([]cpuid.Leaf, error) {
	var entries []kvm.CPUIDEntry
	err := m.onCPU(id, func(c *cpu) (err error) {
		entries, err = c.vcpu.CPUID()
		return err
	})
	return leaves(entries), err
}

// SupportedCPUID is what KVM says that CPUID may say in a guest on this host.
func SupportedCPUID() ([]cpuid.Leaf, error) {
	system, err := kvm.Open()
	if err != nil {
		return nil, err
	}
	defer system.Close()
	entries, err := system.SupportedCPUID()
	return leaves(entries), err
}

// SupportedCPUID is what it said when the machine was made.
func (m *Machine) SupportedCPUID() []cpuid.Leaf { return m.supported }

func leaves(entries []kvm.CPUIDEntry) []cpuid.Leaf {
	var all []cpuid.Leaf
	for _, e := range entries {
		all = append(all, cpuid.Leaf{
			Function: e.Function, Index: e.Index, Indexed: e.Flags&kvm.CPUIDSignificantIndex != 0,
			EAX: e.EAX, EBX: e.EBX, ECX: e.ECX, EDX: e.EDX,
		})
	}
	return all
}
