package machine

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vmm/boot"
	"vmm/boot/kallsyms"
	"vmm/kvm"
	"vmm/probe"
	"vmm/timeline"
)

// A guest's boot markers on port 0x80 in Cloud Hypervisor's way: a patched
// kernel writes the first when it begins, and the second before it runs init.
const (
	markerKernel = 0x40
	markerInit   = 0x41
)

// portHandover is the port that stands for the handover of a kernel that
// unpacks itself; see watchUnpacking. No PC has a device there.
const portHandover = 0xe8

// watching is what the machine keeps for its timeline.
type watching struct {
	unpacking atomic.Bool // the kernel has yet to unpack itself
	kernel    atomic.Pointer[kernelWatch]
}

// kernelWatch are the probes on a guest's kernel from which its timeline comes.
type kernelWatch struct {
	m *Machine

	mu      sync.Mutex
	symbols *kallsyms.Table
	// offset is what to add to a virtual address of the kernel for the
	// guest-physical one.
	offset     uint64
	start, end uint64       // guest-physical, of the kernel
	initcall   *probe.Probe // at do_one_initcall, or at its return
}

// watchStart prepares the timeline of a guest that is about to start, from the
// file of its kernel.
func (m *Machine) watchStart(kernel string) {
	m.timeline.Mark(timeline.KernelLoaded, timeline.FromVMM)
	if m.timeline == nil || !m.timeline.Probes {
		return
	}
	defer m.timeline.Cost(time.Now(), 0)
	e := m.entry
	if e.Unpacks() {
		m.watchUnpacking()
		return
	}
	start, ok := m.kernelStart()
	if !ok {
		m.note("the kernel is not Linux")
		return
	}
	image, err := m.memory.Slice(e.Kernel.Start, e.Kernel.Size)
	if err != nil {
		m.note(err.Error())
		return
	}
	symbols, err := kallsyms.Find(context.Background(), image, start)
	if err != nil {
		table, missing := boot.SymbolTable(kernel)
		if missing != nil {
			m.note(err.Error())
			return
		}
		symbols = table
		symbols.Slide(e.Slide)
	}
	m.watchKernel(&kernelWatch{m: m, symbols: symbols, offset: e.Kernel.Start - start, start: e.Kernel.Start, end: e.Kernel.End()})
}

// note says why the timeline lacks something.
func (m *Machine) note(why string) {
	m.log.Debug("no probes on the guest's kernel", "reason", why)
	m.timeline.Note(why)
}

// watchUnpacking waits for a kernel that unpacks itself. Where it will be, and
// at which virtual addresses, it chooses itself; but in the end it jumps there,
// by an instruction of two bytes, JMP RAX. OUT imm8 has two bytes as well. It is
// no probe of the set, for the code moves before it is executed.
func (m *Machine) watchUnpacking() {
	at, ok := m.entry.Handover(m.memory)
	if !ok {
		m.note("the code that unpacks the kernel is none that vmm knows")
		return
	}
	if _, err := m.memory.WriteAt([]byte{0xe6, portHandover}, int64(at)); err != nil {
		m.note(err.Error())
		return
	}
	m.watching.unpacking.Store(true)
}

// unpacked goes on where the kernel has unpacked itself.
func (c *cpu) unpacked(m *Machine) error {
	if err := c.vcpu.CompleteExit(); err != nil {
		return err
	}
	c.vcpu.ClearKick()
	regs, err := c.vcpu.Regs()
	if err != nil {
		return err
	}
	regs.RIP = regs.RAX // the JMP that the OUT replaced
	if err := c.vcpu.SetRegs(regs); err != nil {
		return err
	}
	// The kernel begins at a multiple of its least alignment, a little before
	// its entry. What follows up to the end of its memory is searched.
	const align = 2 << 20
	start := regs.RIP &^ (align - 1)
	image, err := m.ramFrom(start, m.entry.Kernel.Size)
	if err != nil {
		m.note(err.Error())
		return nil
	}
	// Up to Linux 6.19 the symbols say themselves at what virtual addresses
	// they are. Of later kernels, only that they are in a row is known, until
	// the first probe; see arrived.
	symbols, err := kallsyms.Find(context.Background(), image, linkAddr)
	if err != nil {
		m.note(err.Error())
		return nil
	}
	entry, ok := symbols.Lookup("startup_64")
	if !ok {
		m.note("the kernel has no symbol startup_64")
		return nil
	}
	m.watchKernel(&kernelWatch{m: m, symbols: symbols, offset: regs.RIP - entry, start: start, end: start + uint64(len(image))})
	return nil
}

// linkAddr is the virtual address that kernels are linked to begin at, with
// CONFIG_PHYSICAL_START as it is by default.
const linkAddr = boot.LinkBase + 16<<20

// ramFrom is RAM from an address on, size bytes or what there is.
func (m *Machine) ramFrom(addr, size uint64) ([]byte, error) {
	for _, r := range m.memory.Regions() {
		if r.Contains(addr, 1) {
			return m.memory.Slice(addr, min(size, r.End()-addr))
		}
	}
	return m.memory.Slice(addr, 1) // fails
}

// watchKernel puts the probes on a kernel that is in memory.
func (m *Machine) watchKernel(k *kernelWatch) {
	k.once("start_kernel", func(h *probe.Hit) {
		k.arrived(h)
		m.timeline.MarkAt(timeline.StartKernel, timeline.FromProbe, h.Time)
	})
	m.watching.kernel.Store(k)
	runsInit := func(h *probe.Hit) { m.timeline.MarkAt(timeline.RunInit, timeline.FromProbe, h.Time) }
	seen := k.once("run_init_process", runsInit)
	k.initcall = k.at("do_one_initcall", k.initcallBegins)
	// From here on the kernel gives the memory of its start away, in which its
	// initcalls and, without modules, do_one_initcall are.
	k.once("free_initmem", func(h *probe.Hit) {
		m.timeline.MarkAt(timeline.InitcallsDone, timeline.FromProbe, h.Time)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.initcall != nil {
			m.probes.Remove(k.initcall)
		}
		if !seen { // a compiler may have made it a part of its caller; what it calls is there
			k.once("kernel_execve", runsInit)
		}
	})
}

// at puts a probe at a function; nil if there is none of that name, or no place
// in it.
func (k *kernelWatch) at(function string, hit func(*probe.Hit)) *probe.Probe {
	virtual, ok := k.symbols.Lookup(function)
	if !ok {
		k.m.log.Debug("no probe: the kernel has no such function", "function", function)
		return nil
	}
	addr, ok := k.behindEntry(virtual + k.offset)
	if !ok {
		return nil
	}
	return k.insert(&probe.Probe{Addr: addr, Hit: hit})
}

// once puts a probe at a function that is for one call, and reports whether it
// could.
func (k *kernelWatch) once(function string, hit func(*probe.Hit)) bool {
	return k.at(function, func(h *probe.Hit) {
		k.m.probes.Remove(h.Probe)
		hit(h)
	}) != nil
}

// insert puts a probe in place; nil where that is impossible, and then the
// timeline does without.
func (k *kernelWatch) insert(p *probe.Probe) *probe.Probe {
	if err := k.m.probes.Insert(p); err != nil {
		k.m.log.Debug("no probe", "error", err)
		return nil
	}
	return p
}

// What a function may begin with, that the kernel rewrites or that is no place
// for a probe.
var (
	endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}
	// sealed is what Linux writes over an ENDBR64 that nothing jumps to:
	// gen_endbr_poison of arch/x86/include/asm/ibt.h.
	sealed = []byte{0x66, 0x0f, 0x1f, 0x00}
	nop5   = []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}
)

const callRel32 = 0xe8

// behindEntry is the first place in a function for a probe: behind ENDBR64, and
// behind the call of __fentry__, which the kernel replaces by a NOP when ftrace
// starts, and looks at before it does.
func (k *kernelWatch) behindEntry(addr uint64) (uint64, bool) {
	b, err := k.m.memory.Slice(addr, 16)
	if err != nil || addr < k.start || addr >= k.end {
		return 0, false
	}
	if bytes.HasPrefix(b, endbr64) || bytes.HasPrefix(b, sealed) {
		addr, b = addr+4, b[4:]
	}
	if b[0] == callRel32 || bytes.HasPrefix(b, nop5) {
		addr += 5
	}
	return addr, true
}

// arrived corrects the symbols by the first probe that is hit: what RIP is, and
// what it should be.
func (k *kernelWatch) arrived(h *probe.Hit) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slide := h.Regs.RIP - (h.Probe.Addr - k.offset); slide != 0 {
		k.symbols.Slide(slide)
		k.offset -= slide
	}
}

// initcallBegins is hit at do_one_initcall(fn), whose return is then waited for
// with the probe moved there: the two take turns, so that neither has to be
// stepped over.
func (k *kernelWatch) initcallBegins(h *probe.Hit) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.m.timeline.CallBegan(k.name(h.Regs.RDI), h.Time)
	entry := h.Probe
	back, ok := k.load(h.VCPU, h.Regs.RSP)
	if !ok {
		return
	}
	returned := k.insert(&probe.Probe{Addr: back + k.offset, Hit: func(h *probe.Hit) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.m.timeline.CallEnded(h.Time)
		k.m.probes.Remove(h.Probe)
		k.initcall = k.insert(entry)
	}})
	if returned != nil {
		k.m.probes.Remove(entry)
		k.initcall = returned
	}
}

// load reads a word at a virtual address of the guest.
func (k *kernelWatch) load(vcpu *kvm.VCPU, addr uint64) (uint64, bool) {
	t, err := vcpu.Translate(addr)
	if err != nil || t.Valid == 0 {
		return 0, false
	}
	v, err := k.m.memory.Uint64(t.Physical)
	return v, err == nil
}

// delays reports whether an address is in a function that only waits.
func (k *kernelWatch) delays(rip uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, _, ok := k.symbols.At(rip)
	return ok && strings.Contains(s.Name, "io_delay")
}

// name is the name of the function at an address.
func (k *kernelWatch) name(addr uint64) string {
	s, offset, ok := k.symbols.At(addr)
	if !ok || offset != 0 {
		return "unknown"
	}
	return strings.TrimSuffix(s.Name, ".cfi_jt")
}

// watchPort looks at a write to a port for the timeline, and reports whether it
// was none of the guest's.
func (c *cpu) watchPort(m *Machine, io kvm.IO) (ours bool, err error) {
	if m.timeline == nil || !io.Write || len(io.Data) != 1 {
		return false, nil
	}
	began := time.Now()
	switch {
	case io.Port == portHandover:
		if !m.watching.unpacking.Swap(false) {
			return false, nil
		}
		m.timeline.MarkAt(timeline.Unpacked, timeline.FromProbe, began)
		ours, err = true, c.unpacked(m)
	case io.Port == portPOST:
		err = c.marker(m, io.Data[0], began)
	default:
		return false, nil
	}
	m.timeline.Cost(began, 1)
	return ours, err
}

// marker looks at who has written to port 0x80. Linux does so itself, whatever
// is in AL, to wait for old devices: native_io_delay of
// arch/x86/kernel/io_delay.c.
func (c *cpu) marker(m *Machine, value byte, at time.Time) error {
	s, err := c.vcpu.Sregs()
	if err != nil {
		return err
	}
	user := s.CS.Selector&3 == 3
	ready := m.timeline.Condition.Marker
	awaited := ready != nil && value == *ready
	if !user && value != markerKernel && value != markerInit && !awaited {
		return nil
	}
	if k := m.watching.kernel.Load(); k != nil && !user {
		r, err := c.vcpu.Regs()
		if err != nil {
			return err
		}
		if k.delays(r.RIP) {
			return nil
		}
	}
	m.timeline.Marker("port 0x80", uint32(value), user, at)
	if user {
		m.timeline.MarkAt(timeline.InitMarker, timeline.FromVMM, at)
	}
	if awaited {
		m.timeline.MarkAt(timeline.Ready, timeline.FromVMM, at)
	}
	return nil
}

// booted is told by a guest through Firecracker's boot timer.
func (m *Machine) booted() { m.timeline.Mark(timeline.BootTimer, timeline.FromVMM) }
