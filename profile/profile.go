// Package profile counts where the processors of a guest were when somebody
// looked, and writes that as folded stacks: the text that flame graphs are made
// of.
package profile

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Profile are the samples of a machine. Its methods may be called from any
// goroutine.
type Profile struct {
	mu     sync.Mutex
	counts map[sample]int
	total  int
}

type sample struct {
	vcpu int
	user bool
	rip  uint64
}

// New returns a profile without samples.
func New() *Profile { return &Profile{counts: map[sample]int{}} }

// maxPlaces bounds the memory that a guest can make a profile use.
const maxPlaces = 1 << 20

// Add counts a processor that was at an address, in user mode or the kernel.
// All of user mode is one place: whose addresses those are, only the guest
// knows.
func (p *Profile) Add(vcpu int, user bool, rip uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if user {
		rip = 0
	}
	s := sample{vcpu, user, rip}
	if _, ok := p.counts[s]; ok || len(p.counts) < maxPlaces {
		p.counts[s]++
		p.total++
	}
}

// Samples is how many there are.
func (p *Profile) Samples() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// Write writes a line "vcpu 0;kernel;function 12" for each place, sorted. The
// function name turns an address of the kernel into the name of a function, or
// "" where it knows none.
//
// A sample is one frame and not a stack: Linux is built without frame pointers
// as a rule, and what it has in their place, ORC tables, is its own.
func (p *Profile) Write(w io.Writer, name func(rip uint64) string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := map[string]int{}
	for s, n := range p.counts {
		stack := fmt.Sprintf("vcpu %d;", s.vcpu)
		if s.user {
			stack += "user mode"
		} else if f := name(s.rip); f != "" {
			stack += "kernel;" + f
		} else {
			stack += fmt.Sprintf("kernel;%#x", s.rip)
		}
		lines[stack] += n
	}
	var sorted []string
	for stack := range lines {
		sorted = append(sorted, stack)
	}
	slices.Sort(sorted)
	out := bufio.NewWriter(w)
	for _, stack := range sorted {
		fmt.Fprintf(out, "%s %d\n", stack, lines[stack])
	}
	return out.Flush()
}
