package machine

import (
	"errors"
	"fmt"

	"vmm/gdb"
	"vmm/kvm"
	"vmm/memory"
	"vmm/paging"
	"vmm/trace"
)

// Processor looks at a vCPU. The processors are held meanwhile.
func (m *Machine) Processor(id int) (p Processor, err error) {
	err = m.onCPU(id, func(c *cpu) error {
		s, err := c.state()
		if err != nil {
			return err
		}
		doing, err := c.vcpu.MPState()
		if err != nil {
			return err
		}
		p = Processor{
			State: stateName(doing), Bits: mode(s.sregs), Privilege: int(s.sregs.SS.DPL), Paging: pagingState(s.sregs).Mode().String(),
			Next: trace.Hex(s.sregs.CS.Base + s.regs.RIP), Segments: segments(s.sregs),
		}
		for _, f := range s.fields() {
			v := f.get()
			p.Registers = append(p.Registers, RegisterValue{f.reg.String(), f.reg.Bits(), trace.Hex(v), f.reg.Flags(v)})
		}
		return nil
	})
	return p, err
}

// running is the state of a processor that executes instructions, or would.
const running = "running"

func stateName(s kvm.MPState) string {
	switch s {
	case kvm.MPHalted:
		return "halted"
	case kvm.MPUninitialized, kvm.MPInitReceived:
		return "not started"
	}
	return running
}

func segments(s kvm.Sregs) []Segment {
	var all []Segment
	for _, x := range []struct {
		reg gdb.Register
		kvm.Segment
	}{{gdb.CS, s.CS}, {gdb.SS, s.SS}, {gdb.DS, s.DS}, {gdb.ES, s.ES}, {gdb.FS, s.FS}, {gdb.GS, s.GS}, {gdb.TR, s.TR}, {gdb.LDTR, s.LDT}} {
		all = append(all, Segment{x.reg.String(), trace.Hex(x.Selector), trace.Hex(x.Base), trace.Hex(x.Limit), segmentMeaning(x.Segment)})
	}
	return all
}

// segmentMeaning says what kind of segment it is. Intel SDM vol. 3 §3.4.5.1,
// table 3-1.
func segmentMeaning(s kvm.Segment) string {
	if s.Unusable != 0 || s.Present == 0 {
		return "unusable"
	}
	if s.S == 0 {
		return fmt.Sprintf("system, type %d", s.Type)
	}
	kind := "data, read-only"
	switch {
	case s.Type&8 != 0:
		width := 16
		if s.L != 0 {
			width = 64
		} else if s.DB != 0 {
			width = 32
		}
		kind = fmt.Sprintf("code, %d-bit", width)
	case s.Type&2 != 0:
		kind = "data"
	}
	return fmt.Sprintf("%s, privilege %d", kind, s.DPL)
}

// ReadLinear fills as much of p, from its start, as is mapped at a linear address
// of a vCPU, and says how much that was. It fails when it is nothing. Probes do
// not show. The processors are held meanwhile.
func (m *Machine) ReadLinear(id int, addr uint64, p []byte) (int, error) {
	return m.eachPage(id, addr, len(p), func(gpa uint64, from, to int) error {
		return m.ReadPhysical(gpa, p[from:to])
	})
}

// ReadPhysical fills p with what is at a guest-physical address, which must all be
// RAM. Probes do not show.
func (m *Machine) ReadPhysical(gpa uint64, p []byte) error {
	if _, err := m.memory.ReadAt(p, int64(gpa)); err != nil {
		return err
	}
	m.probes.Original(gpa, p)
	return nil
}

// eachPage calls do with the pieces of n bytes of a processor's linear memory that
// lie in a page each, as far as they are mapped, and says how many bytes that was.
// It fails when it is none.
func (m *Machine) eachPage(id int, addr uint64, n int, do func(gpa uint64, from, to int) error) (done int, err error) {
	err = m.withPaging(id, func(s paging.State) error {
		for done < n {
			w, err := paging.Translate(m.memory, s, addr+uint64(done))
			if early, inKernel := m.kernelAddress(w.Linear); err == nil && !w.Mapped && inKernel {
				w.Mapped, w.Physical, w.Size = true, early, memory.PageSize
			}
			if err != nil || !w.Mapped {
				return errors.Join(err, errAddress)
			}
			end := min(n, done+int(min(w.Size-w.Physical%w.Size, 1<<30)))
			if err := do(w.Physical, done, end); err != nil {
				return err
			}
			done = end
		}
		return nil
	})
	if done > 0 {
		err = nil
	}
	return done, err
}
