package probe

import (
	"sync"
	"time"

	"vmm/kvm"
)

// Hit is a processor at a probe.
type Hit struct {
	// VCPU is the processor.
	VCPU *kvm.VCPU
	// Regs are its registers, RIP at the instruction. With these, as the
	// probe's function leaves them, it goes on: a changed RIP means that the
	// instruction is not executed.
	Regs kvm.Regs
	// Probe is what it has come to; nil after a Step.
	Probe *Probe
	// Time is when the guest stopped, or soon after.
	Time time.Time
}

// CPU is a vCPU as probes see it: what it has been told of them, and the
// instruction that it is stepping over. Its methods belong to the vCPU's
// goroutine.
type CPU struct {
	set     *Set
	vcpu    *kvm.VCPU
	version uint32 // of the debug registers that the vCPU has

	// stepped is the probe that is out of the way for one instruction, and
	// release lets the other processors go on after it.
	stepped *Probe
	release func()
	since   time.Time
	limit   limit

	// single is called after the next instruction; nil for nothing.
	single func(*Hit)
}

// stepLimit is how long one instruction may take, on the busiest host. One that
// takes longer waits, in the guest's page-fault handler say, for an interrupt or
// another processor. These go on then, at the risk that the probe is hit a second
// time.
const stepLimit = time.Second

// CPU returns the probes' view of a vCPU.
func (s *Set) CPU(vcpu *kvm.VCPU) *CPU { return &CPU{set: s, vcpu: vcpu} }

// Prepare comes before each Run: it brings the vCPU's debug registers up to
// date, which costs nothing while they are.
func (c *CPU) Prepare() error {
	if c.stepped != nil && time.Since(c.since) > stepLimit {
		return c.endStep()
	}
	if c.version == c.set.version.Load() {
		return nil
	}
	return c.setDebug()
}

func (c *CPU) setDebug() error {
	d, version := c.set.debug(c.stepped)
	if c.stepped != nil || c.single != nil {
		// Without interrupts: a handler would run with the probe out of the
		// way, and return into the middle of it. Linux 5.15 and later.
		d.Control |= kvm.DebugEnable | kvm.DebugSingleStep | kvm.DebugBlockIRQ
	}
	if err := c.vcpu.SetGuestDebug(d); err != nil {
		return err
	}
	c.version = version
	return nil
}

// Port comes after a write to PortNumber, which stopped the guest at a time. It
// reports whether that was a probe, and not the guest's own. Code segments are taken to begin at 0, as they do in
// every kernel behind its first instructions.
func (c *CPU) Port(at time.Time) (bool, error) {
	// First complete the exit, which advances RIP: KVM does so at the next
	// entry, on the assumption that RIP is still that of the OUT, and with
	// kvm-amd even when it is not.
	if err := c.vcpu.CompleteExit(); err != nil {
		return false, err
	}
	c.vcpu.ClearKick()
	regs, err := c.vcpu.Regs()
	if err != nil {
		return false, err
	}
	regs.RIP -= uint64(len(outImm8))
	p, err := c.find(Port, regs.RIP)
	if p == nil || err != nil {
		return false, err
	}
	return true, c.hit(p, regs, at)
}

// Debug comes after an exit for debugging: a probe, the step over one, or a
// breakpoint of the guest's own, which it is given.
func (c *CPU) Debug(exit kvm.Exit) error {
	const exceptionDB, exceptionBP = 1, 3
	began := time.Now()
	d := exit.Debug()
	if d.Exception == exceptionDB && c.stepped != nil {
		return c.afterStep()
	}
	if d.Exception == exceptionDB && c.single != nil && d.DR6&dr6SingleStep != 0 {
		return c.afterSingle()
	}
	var p *Probe
	var err error
	if d.Exception == exceptionBP {
		p, err = c.find(Breakpoint, d.PC)
	} else {
		p = c.set.byRegister(d.PC, d.DR6)
	}
	switch {
	case err != nil:
		return err
	case p == nil && d.Exception == exceptionBP:
		return c.reinject()
	case p == nil: // removed since, and gone from the registers at the next Prepare
		return nil
	}
	regs, err := c.vcpu.Regs()
	if err != nil {
		return err
	}
	return c.hit(p, regs, began)
}

// reinject gives the guest its INT3, which came to vmm because there are probes
// of kind Breakpoint. KVM works out what RIP the handler finds.
func (c *CPU) reinject() error {
	e, err := c.vcpu.Events()
	if err != nil {
		return err
	}
	e.Exception.Injected, e.Exception.Vector, e.Exception.HasErrorCode = 1, 3, 0
	return c.vcpu.SetEvents(e)
}

// find is the probe at a linear address, through the guest's page tables; nil
// for none.
func (c *CPU) find(kind Kind, linear uint64) (*Probe, error) {
	t, err := c.vcpu.Translate(linear)
	if err != nil || t.Valid == 0 {
		return nil, err
	}
	return c.set.at(kind, t.Physical), nil
}

// hit calls the probe's function and sees to it that the vCPU goes on behind
// the probe.
func (c *CPU) hit(p *Probe, regs kvm.Regs, at time.Time) error {
	h := Hit{VCPU: c.vcpu, Regs: regs, Probe: p, Time: at}
	p.Hit(&h)
	// Registers first: KVM single-steps from the RIP that the vCPU has when it
	// is asked to.
	if err := c.vcpu.SetRegs(h.Regs); err != nil {
		return err
	}
	if p.Watch == Execution && c.set.inserted(p) && h.Regs.RIP == regs.RIP {
		return c.step(p)
	}
	return nil
}

// step takes a probe out of the way for one instruction. Where it is written in
// memory, no other processor runs meanwhile, for it would pass.
func (c *CPU) step(p *Probe) error {
	if c.stepped != nil { // over the one before it, an instruction ago
		if err := c.endStep(); err != nil {
			return err
		}
	}
	c.release = func() {}
	if p.Kind != Hardware {
		c.release = c.set.alone(c.vcpu)
		c.set.mu.Lock()
		c.set.restore(p)
		c.set.mu.Unlock()
	}
	c.stepped, c.since = p, time.Now()
	c.limit.start(c.vcpu)
	return c.setDebug()
}

// afterStep puts the probe back, once the vCPU has left its bytes: of kind Port
// these may be two instructions.
func (c *CPU) afterStep() error {
	regs, err := c.vcpu.Regs()
	if err != nil {
		return err
	}
	t, err := c.vcpu.Translate(regs.RIP)
	if err != nil {
		return err
	}
	p := c.stepped
	if t.Valid == 0 || t.Physical <= p.Addr || t.Physical >= p.Addr+uint64(len(p.saved)) {
		if err := c.endStep(); err != nil {
			return err
		}
	}
	if c.single != nil {
		return c.afterSingle()
	}
	return nil
}

// dr6SingleStep says that a debug exception is for a single step. Intel SDM vol. 3
// §18.2.3.
const dr6SingleStep = 1 << 14

// Step has f called after the next instruction that the vCPU executes. At a probe,
// its function comes first, and may take the step back. It is called between two
// Runs, or by the function of a probe or of a Step; nil takes it back.
func (c *CPU) Step(f func(*Hit)) {
	if f != nil || c.single != nil {
		c.version = c.set.version.Load() - 1 // the next Prepare sees to it
	}
	c.single = f
}

// Accessed comes after an access to a port or to memory has been served. With it
// an instruction is over, and a step too: left to itself, KVM would end the step
// one instruction later where it emulates, as it does for some of these.
func (c *CPU) Accessed() error {
	if c.stepped == nil && c.single == nil {
		return nil
	}
	if err := c.vcpu.CompleteExit(); err != nil {
		return err
	}
	if c.stepped != nil {
		return c.afterStep()
	}
	return c.afterSingle()
}

// afterSingle ends a Step.
func (c *CPU) afterSingle() error {
	regs, err := c.vcpu.Regs()
	if err != nil {
		return err
	}
	h := Hit{VCPU: c.vcpu, Regs: regs, Time: time.Now()}
	f := c.single
	c.Step(nil)
	f(&h)
	if c.stepped != nil { // still among the bytes of a probe
		c.since = time.Now()
		c.limit.start(c.vcpu)
	}
	return c.vcpu.SetRegs(h.Regs)
}

// Stop comes after the last Run.
func (c *CPU) Stop() { c.limit.stop() }

func (c *CPU) endStep() error {
	p, release := c.stepped, c.release
	c.stepped, c.release = nil, nil
	c.limit.stop()
	c.set.arm(p)
	release()
	return c.setDebug()
}

// limit makes a vCPU leave the guest when a step takes too long, and never
// after stop.
type limit struct {
	mu    sync.Mutex
	timer *time.Timer
}

func (l *limit) start(vcpu *kvm.VCPU) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var t *time.Timer
	t = time.AfterFunc(stepLimit+time.Millisecond, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.timer == t {
			vcpu.Kick()
		}
	})
	l.timer = t
}

func (l *limit) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}
