package machine

import (
	"fmt"
	"sync/atomic"

	"vmm/kvm"
	"vmm/probe"
	"vmm/timeline"
	"vmm/trace"
)

// cpu is a processor of the machine: a vCPU and the loop around it.
type cpu struct {
	vcpu   *kvm.VCPU
	cpuid  told // as it was set
	probes *probe.CPU
	exits  atomic.Uint64
	recent recent // accesses that devices were asked for
	// asking is the access that a device is carrying out.
	asking place
	// running is set from the start of the vCPU's goroutine to its end.
	running atomic.Bool
	known   known // the registers at the last exit, of a machine that is watched
	// inside is set while the vCPU may execute the guest's instructions.
	inside atomic.Bool
	// sampled is set when the profile wants to know where the vCPU is.
	sampled atomic.Bool
	job     *job // guarded by Machine.wake.L
	debug   standing

	// For the trace:
	record   trace.Record
	data     []byte // what the exit reads or writes
	serving  int64  // when serving it began
	syncRegs bool   // KVM delivers registers with the exit
	places   map[uint64]codePlace
}

// access is a guest's access to a port or memory that came to vmm.
type access struct {
	addr  uint64
	size  int
	port  bool
	write bool
	valid bool
}

func (a access) String() string {
	if !a.valid {
		return "none"
	}
	verb, space := "read", "memory"
	if a.write {
		verb = "write"
	}
	if a.port {
		space = "port"
	}
	return fmt.Sprintf("%d-byte %s of %s %#x", a.size, verb, space, a.addr)
}

// place is where a device is accessed, for others to look at: an address, whether
// it is a port, and whether there is an access at all, in one word.
type place struct{ word atomic.Uint64 }

func (p *place) enter(addr uint64, port bool) {
	word := addr<<2 | 1
	if port {
		word |= 2
	}
	p.word.Store(word)
}

func (p *place) leave() { p.word.Store(0) }

func (p *place) get() (addr uint64, port, ok bool) {
	word := p.word.Load()
	return word >> 2, word&2 != 0, word&1 != 0
}

// loop runs the vCPU until the machine stops. It is the body of the vCPU's
// goroutine, and so of its thread.
func (c *cpu) loop(m *Machine) {
	c.vcpu.LockThread()
	defer c.probes.Stop()
	if c.vcpu.ID == 0 {
		m.timeline.Mark(timeline.Entered, timeline.FromVMM)
	}
	for !m.stopping.Load() {
		// First inside, then the look whether to be: Pause does it the other
		// way round, and so one of the two sees the other.
		c.inside.Store(true)
		if m.resting(c) {
			c.inside.Store(false)
			c.rest(m)
			continue
		}
		t := m.tracing.now.Load()
		if t != nil {
			t.entering(c)
		}
		watched := m.timeline != nil || m.probes.Used()
		if watched {
			c.wantRegisters()
		}
		var exit kvm.Exit
		err := c.probes.Prepare()
		if err == nil {
			exit, err = c.vcpu.Run()
		}
		c.inside.Store(false)
		if err != nil {
			m.stop(Outcome{}, err)
			return
		}
		c.exits.Add(1)
		if watched {
			c.note(exit)
		}
		if t != nil {
			t.left(c, m, exit)
		}
		if err := c.serve(m, exit); err != nil {
			m.stop(Outcome{}, err)
			return
		}
		if t != nil {
			t.served(c)
		}
	}
}

// serve does what an exit asks for. An error is the host's.
func (c *cpu) serve(m *Machine, exit kvm.Exit) error {
	switch exit.Reason {
	case kvm.ExitIO:
		io := exit.IO()
		if io.Port == probe.PortNumber && io.Write {
			return c.probePort(m, io)
		}
		if ours, err := c.watchPort(m, io); ours || err != nil {
			return err
		}
		c.portIO(m, io)
		return c.probes.Accessed()
	case kvm.ExitMMIO:
		c.memoryIO(m, exit.MMIO())
		return c.probes.Accessed()
	case kvm.ExitInterrupted:
		// The one who kicked has set stopping or paused before. Clear, then
		// look.
		c.vcpu.ClearKick()
		if c.sampled.Swap(false) {
			return c.sample(m)
		}
	case kvm.ExitDebug:
		return c.probes.Debug(exit)
	case kvm.ExitShutdown:
		c.crash(m, "triple fault")
	case kvm.ExitFailEntry:
		f := exit.FailEntry()
		c.crash(m, fmt.Sprintf("the processor refused to enter the guest: reason %#x", f.Reason))
	case kvm.ExitInternalError:
		c.internalError(m, exit.InternalError())
	default:
		c.crash(m, fmt.Sprintf("KVM left the guest for a reason that vmm does not handle: %v", exit.Reason))
	}
	return nil
}

// portIO serves IN and OUT. A string instruction asks for the same port
// several times in one exit.
func (c *cpu) portIO(m *Machine, io kvm.IO) {
	c.recent.add(access{addr: uint64(io.Port), size: io.Size, port: true, write: io.Write, valid: true})
	c.asking.enter(uint64(io.Port), true)
	defer c.asking.leave()
	for data := io.Data; len(data) > 0; data = data[io.Size:] {
		if io.Write {
			m.ports.Write(uint64(io.Port), data[:io.Size:io.Size])
		} else {
			m.ports.Read(uint64(io.Port), data[:io.Size:io.Size])
		}
	}
}

func (c *cpu) memoryIO(m *Machine, io kvm.MMIO) {
	c.recent.add(access{addr: io.Addr, size: len(io.Data), write: io.Write, valid: true})
	c.asking.enter(io.Addr, false)
	defer c.asking.leave()
	if io.Write {
		m.mmio.Write(io.Addr, io.Data)
	} else {
		m.mmio.Read(io.Addr, io.Data)
	}
}

// crash stops the machine because this vCPU cannot go on.
func (c *cpu) crash(m *Machine, reason string) {
	m.stop(Outcome{Kind: Crashed, Crash: c.report(m, reason)}, nil)
}
