package memory

import (
	"slices"
	"sync"
)

// pieces are pieces of the host's memory.
type pieces struct {
	mu  sync.Mutex
	all [][]byte
}

func (p *pieces) add(host []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, host)
}

// overlap reports whether one of the pieces shares a byte with host.
func (p *pieces) overlap(host []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.all, func(piece []byte) bool { return overlaps(piece, host) })
}
