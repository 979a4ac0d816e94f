package gdb

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// fake is a target with two processors and a page of memory at page.
type fake struct {
	mu      sync.Mutex
	regs    [2]Registers
	memory  [256]byte
	points  []Breakpoint
	running bool
	killed  bool
	actions []Action
	stops   chan Stop
}

const page = 0xffff_8000_0000_1000

func newFake() *fake {
	f := &fake{stops: make(chan Stop, 2), running: true}
	for i := range f.regs {
		f.regs[i].SetUint(RIP, page+uint64(i))
	}
	return f
}

var _ Target = (*fake)(nil)

func (f *fake) Count() int              { return len(f.regs) }
func (f *fake) Describe(cpu int) string { return fmt.Sprintf("vCPU %d", cpu) }

func (f *fake) Registers(cpu int) (Registers, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.regs[cpu], f.halted()
}

func (f *fake) SetRegisters(cpu int, r Registers) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.regs[cpu] = r
	return f.halted()
}

func (f *fake) set(r Registers) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.regs[0] = r
}

// halted is an error unless the target is.
func (f *fake) halted() error {
	if f.running {
		return errors.New("running")
	}
	return nil
}

func (f *fake) part(addr, n uint64) []byte {
	if off := addr - page; off < uint64(len(f.memory)) {
		return f.memory[off:min(off+n, uint64(len(f.memory)))]
	}
	return nil
}

func (f *fake) ReadMemory(_ int, addr uint64, p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := copy(p, f.part(addr, uint64(len(p))))
	if n == 0 {
		return 0, errors.New("not mapped")
	}
	return n, f.halted()
}

func (f *fake) WriteMemory(_ int, addr uint64, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if part := f.part(addr, uint64(len(p))); len(part) == len(p) {
		copy(part, p)
		return f.halted()
	}
	return errors.New("not mapped")
}

func (f *fake) Insert(_ int, b Breakpoint) error {
	if b.Kind == WatchRead {
		return errors.New("processors do not watch $reads# only")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.points = append(f.points, b)
	return nil
}

func (f *fake) Remove(b Breakpoint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.points = slices.DeleteFunc(f.points, func(o Breakpoint) bool { return o == b })
	return nil
}

func (f *fake) Attach() { f.Halt() }

func (f *fake) Detach() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.points, f.running = nil, true
}

func (f *fake) Stops() <-chan Stop { return f.stops }

func (f *fake) Halt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = false
}

func (f *fake) Resume(actions []Action) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running, f.actions = true, slices.Clone(actions)
	for i, a := range actions {
		if a == Step {
			f.regs[i].SetUint(RIP, f.regs[i].Uint(RIP)+1)
			select {
			case f.stops <- Stop{CPU: i, Reason: Stepped}:
			default:
			}
		}
	}
	return nil
}

func (f *fake) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.killed, f.running = true, true
}

func (f *fake) isRunning() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running
}
