package machine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"vmm/gdb"
	"vmm/paging"
	"vmm/probe"
)

// DebugAbility is what the host's KVM can do for a debugger. What it promises is
// not what every host keeps, so it is measured: package doctor.
type DebugAbility struct {
	Hardware   bool // debug registers, for instructions
	Watch      bool // and for memory
	Breakpoint bool // INT3
}

// Debugger is a machine as a debugger sees it.
type Debugger struct {
	m    *Machine
	can  DebugAbility
	kill func()

	// stops has room for one of each processor: each waits after it.
	stops chan gdb.Stop

	mu     sync.Mutex
	points map[gdb.Breakpoint]*probe.Probe

	attached bool // guarded by m.wake.L
}

var _ gdb.Target = (*Debugger)(nil)

// standing is what a processor is doing for a debugger. It is guarded by
// Machine.wake.L, except for hit, which is the processor's own.
type standing struct {
	stay   atomic.Bool // it is not to run; read without the lock
	step   atomic.Bool // it is to run, for Machine.Step, though the machine is paused
	stands bool        // it has come to a breakpoint, or the end of a step
	again  bool        // and the debugger has not heard of it
	hit    *probe.Hit
}

// Debugger lets a debugger at the machine. kill ends it.
func (m *Machine) Debugger(can DebugAbility, kill func()) *Debugger {
	return &Debugger{m: m, can: can, kill: kill, stops: make(chan gdb.Stop, len(m.cpus)), points: map[gdb.Breakpoint]*probe.Probe{}}
}

// HoldForDebugger keeps the processors from their first instruction, or the next,
// until a debugger has come and gone, or has them go on.
func (m *Machine) HoldForDebugger() { m.hold(byDebugger) }

// Stops implements gdb.Target.
func (d *Debugger) Stops() <-chan gdb.Stop { return d.stops }

// Attach implements gdb.Target.
func (d *Debugger) Attach() {
	d.m.debugged.Store(true)
	d.m.wake.L.Lock()
	d.attached = true
	d.m.wake.L.Unlock()
	d.Halt()
}

// Detach implements gdb.Target.
func (d *Debugger) Detach() {
	d.Halt()
	d.mu.Lock()
	for b, p := range d.points {
		d.m.probes.Remove(p)
		delete(d.points, b)
	}
	d.mu.Unlock()
	d.m.wake.L.Lock()
	d.attached = false
	for _, c := range d.m.cpus {
		c.debug.stay.Store(false)
		c.debug.stands, c.debug.again = false, false
	}
	d.forget()
	d.m.wake.L.Unlock()
	d.m.letGo(byDebugger)
	d.m.debugged.Store(false)
}

// Kill implements gdb.Target.
func (d *Debugger) Kill() {
	d.kill()
	d.Detach()
}

// Halt implements gdb.Target.
func (d *Debugger) Halt() { d.m.hold(byDebugger) }

// forget drops the stops that the debugger has not heard of, and notes whose they
// were.
func (d *Debugger) forget() {
	for {
		select {
		case s := <-d.stops:
			d.m.cpus[s.CPU].debug.again = d.attached
		default:
			return
		}
	}
}

// Resume implements gdb.Target.
func (d *Debugger) Resume(actions []gdb.Action) error {
	m := d.m
	for i, a := range actions {
		if a == gdb.Step {
			if err := m.onCPU(i, func(c *cpu) error {
				c.probes.Step(func(h *probe.Hit) { d.stand(c, h, gdb.Stop{CPU: i, Reason: gdb.Stepped}) })
				return nil
			}); err != nil {
				return err
			}
		}
	}
	m.wake.L.Lock()
	d.forget()
	for i, c := range m.cpus {
		c.debug.stay.Store(actions[i] == gdb.Stay)
		if actions[i] != gdb.Stay {
			c.debug.stands = false
		}
	}
	m.wake.L.Unlock()
	m.letGo(byDebugger)
	return nil
}

// stand tells the debugger of a stop, and returns when it has the processor go
// on. It is called on the vCPU's goroutine.
func (d *Debugger) stand(c *cpu, h *probe.Hit, stop gdb.Stop) {
	m := d.m
	for again := true; again; {
		m.wake.L.Lock()
		// The instruction may have ended the machine: there is no processor left
		// that could stand, and the debugger is told of the end instead.
		if !d.attached || m.stopping.Load() {
			m.wake.L.Unlock()
			return
		}
		c.debug.stands, c.debug.again = true, false
		m.wake.L.Unlock()
		d.stops <- stop
		c.debug.hit = h
		c.wait(m, func() bool { return !c.debug.stands })
		c.debug.hit = nil
		m.wake.L.Lock()
		again = c.debug.again && !m.stopping.Load()
		m.wake.L.Unlock()
		if again && h.Probe != nil && !d.inserted(h.Probe) {
			return // what is there now stops it again
		}
	}
}

func (d *Debugger) inserted(p *probe.Probe) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, have := range d.points {
		if have == p {
			return true
		}
	}
	return false
}

// Insert implements gdb.Target.
func (d *Debugger) Insert(cpu int, b gdb.Breakpoint) error {
	p, err := d.probe(cpu, b)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.points[b] != nil {
		return nil
	}
	if err := d.m.probes.Insert(p); err != nil {
		return err
	}
	d.points[b] = p
	return nil
}

// Remove implements gdb.Target.
func (d *Debugger) Remove(b gdb.Breakpoint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.points[b]; p != nil {
		d.m.probes.Remove(p)
		delete(d.points, b)
	}
	return nil
}

var (
	errWatch   = errors.New("this host's KVM does not tell of accesses to memory; gdb can watch by stepping, after 'set can-use-hw-watchpoints 0'")
	errReads   = errors.New("no x86 processor watches reads alone: use awatch")
	errCPL     = errors.New("on this host a breakpoint works in the guest's kernel only")
	errAddress = errors.New("nothing is mapped there")
)

// probe is the probe that makes a breakpoint, of a kind that the host has.
func (d *Debugger) probe(cpu int, b gdb.Breakpoint) (*probe.Probe, error) {
	p := &probe.Probe{Kind: probe.Hardware, Addr: b.Addr, Size: uint8(b.Size)}
	reason := gdb.AtSoftware
	switch b.Kind {
	case gdb.WatchRead:
		return nil, errReads
	case gdb.WatchWrite, gdb.WatchAccess:
		p.Watch, reason = probe.Writes, gdb.AtWatchWrite
		if b.Kind == gdb.WatchAccess {
			p.Watch, reason = probe.Accesses, gdb.AtWatchAccess
		}
		if !d.can.Watch {
			return nil, errWatch
		}
		if b.Size > 8 {
			return nil, fmt.Errorf("a debug register watches at most 8 bytes, not %d", b.Size)
		}
	case gdb.Hardware:
		reason = gdb.AtHardware
		if !d.can.Hardware {
			p.Kind = probe.Port
		}
	default:
		if p.Kind = probe.Port; d.can.Breakpoint {
			p.Kind = probe.Breakpoint
		} else if d.can.Hardware && d.m.probes.FreeHardware() > 0 {
			p.Kind = probe.Hardware
		}
	}
	if p.Kind != probe.Hardware {
		w, err := d.m.Translate(cpu, b.Addr)
		early, inKernel := d.m.kernelAddress(b.Addr)
		switch {
		case err != nil:
			return nil, err
		case !w.Mapped && inKernel: // the boot processor has yet to map it
			w.Physical = early
		case !w.Mapped:
			return nil, errAddress
		case p.Kind == probe.Port && w.Mode != paging.Off && w.Flags&paging.User != 0:
			return nil, errCPL
		}
		p.Addr = w.Physical
	}
	p.Hit = func(h *probe.Hit) {
		c := d.m.cpus[h.VCPU.ID]
		c.probes.Step(nil) // a step ends here, too
		d.stand(c, h, gdb.Stop{CPU: c.vcpu.ID, Reason: reason, Addr: b.Addr})
	}
	return p, nil
}

// ReadMemory implements gdb.Target.
func (d *Debugger) ReadMemory(cpu int, addr uint64, p []byte) (int, error) {
	return d.m.ReadLinear(cpu, addr, p)
}

// WriteMemory implements gdb.Target. It does not ask whether the guest might.
func (d *Debugger) WriteMemory(cpu int, addr uint64, p []byte) error {
	n, err := d.m.eachPage(cpu, addr, len(p), func(gpa uint64, from, to int) error {
		return d.m.probes.Write(gpa, p[from:to])
	})
	if err == nil && n < len(p) {
		err = errAddress
	}
	return err
}
