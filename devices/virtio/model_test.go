package virtio_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmm/devices/virtio"
	"vmm/devices/virtio/virtiotest"
	"vmm/memory"
)

// These tests walk through everything that a driver can put into a small queue,
// and not through samples: every graph of descriptors, and every state of the
// rings. Beside each runs a model, which says what the device must make of it.

// Guest memory of the models.
const (
	modelDesc   = 0x1000
	modelAvail  = 0x2000
	modelUsed   = 0x3000
	modelTable  = 0x4000 // an indirect table
	modelBuffer = 0x5000
	modelSize   = 0x10000 // of RAM
)

func modelMemory(t *testing.T) *memory.Guest {
	t.Helper()
	m, err := memory.New([]memory.Range{{Start: 0, Size: modelSize}}, memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// choices is a path through a tree of decisions: each place where one is made
// asks pick for it, and next goes on to the path that comes after. A descriptor
// that nobody reads is never decided on, so that each path is another graph.
type choices struct {
	path []choice
	at   int
}

type choice struct{ taken, of int }

func (c *choices) pick(n int) int {
	if c.at == len(c.path) {
		c.path = append(c.path, choice{0, n})
	}
	taken := c.path[c.at].taken
	c.at++
	return taken
}

// next prepares the next path. It returns false after the last.
func (c *choices) next() bool {
	c.path, c.at = c.path[:c.at], 0
	for i := len(c.path) - 1; i >= 0; i-- {
		if c.path[i].taken++; c.path[i].taken < c.path[i].of {
			c.path = c.path[:i+1]
			return true
		}
	}
	return false
}

// graph is a descriptor table and an indirect table, which the model decides on
// as it goes.
type graph struct {
	choices
	m        *memory.Guest
	size     int // of the queue
	table    int // most entries of an indirect table
	accepted bool

	decided [2]map[int]*modelDescriptor
}

// modelDescriptor is a descriptor, as far as the model wants to know.
type modelDescriptor struct {
	kind            int
	write, goesOn   bool
	next            int
	entries         int  // of an indirect table, and
	self            bool // it is the descriptor table
	odd, outsideRAM bool // its length, its address
}

// Kinds of descriptors.
const (
	aBuffer = iota
	aBufferOutside
	anEmpty
	anIndirect
)

// descriptor is entry i of the descriptor table or an indirect one, of n entries.
// The first time it is decided on, and written to memory.
func (g *graph) descriptor(table, i, n int) *modelDescriptor {
	if d := g.decided[table][i]; d != nil {
		return d
	}
	d := &modelDescriptor{}
	g.decided[table][i] = d
	addr, length, flags := uint64(modelBuffer+0x100*table+0x10*i), uint32(i+1), uint16(0)
	switch d.kind = g.pick(4); d.kind {
	case aBufferOutside:
		addr, d.outsideRAM = modelSize-1, true
		length = 2
	case anEmpty:
		length = 0
	case anIndirect:
		flags |= virtiotest.Indirect
		switch which := g.pick(g.table + 4); which {
		case g.table: // the table that holds it
			addr, length, d.self, d.entries = modelDesc, uint32(16*g.size), true, g.size
			if table == 1 {
				addr = modelTable
			}
		case g.table + 1:
			addr, length, d.outsideRAM = modelSize-8, 16, true
		case g.table + 2:
			addr, length, d.odd = modelTable, 24, true
		case g.table + 3:
			addr, length, d.odd = modelTable, 0, true
		default:
			addr, length, d.entries = modelTable, uint32(16*(which+1)), which+1
		}
	}
	if d.kind != anIndirect && g.pick(2) == 1 {
		d.write = true
		flags |= virtiotest.Write
	}
	if d.next = g.pick(n+2) - 1; d.next >= 0 { // one of them is past the end
		d.goesOn = true
		flags |= virtiotest.Next
	}
	at := uint64(modelDesc)
	if table == 1 {
		at = modelTable
	}
	b, err := g.m.Slice(at+16*uint64(i), 16)
	if err != nil {
		panic(err)
	}
	virtiotest.PutDesc(b, addr, length, flags, uint16(max(d.next, 0)))
	return d
}

// outcome is what becomes of a chain.
type outcome struct {
	Broken           bool
	Readable, Writes []int // lengths
}

// expected is the model of [virtio.Queue.Pop]: virtio §2.7.5, in the words of the
// specification and without a thought for speed.
func (g *graph) expected(head int) outcome {
	broken := outcome{Broken: true}
	var o outcome
	table, at, n, count := 0, head, g.size, 0
	self := false
	for {
		if at >= n || count == g.size {
			return broken
		}
		d := g.descriptor(table, at, n)
		if d.kind == anIndirect {
			if !g.accepted || table == 1 || self || d.goesOn || d.odd || d.outsideRAM {
				return broken
			}
			at, n = 0, d.entries
			if self = d.self; !self {
				table = 1
			}
			continue
		}
		count++
		length := at + 1
		switch {
		case d.kind == aBufferOutside, !d.write && len(o.Writes) > 0:
			return broken
		case d.kind == anEmpty:
			// A readable one is out of order behind writable ones, though
			// there is nothing in it; a writable one does not open them.
		case d.write:
			o.Writes = append(o.Writes, length)
		default:
			o.Readable = append(o.Readable, length)
		}
		if !d.goesOn {
			return o
		}
		at = d.next
	}
}

// Every graph of descriptors in queues of 1 and 2 descriptors, with indirect tables
// of up to 3, and in a queue of 4 with tables of one: each Pop ends, takes what the
// model takes, and breaks the queue where the model says so.
func TestEveryDescriptorGraph(t *testing.T) {
	for _, tt := range []struct{ size, table int }{{1, 3}, {2, 3}, {4, 1}} {
		for _, features := range []virtio.Features{0, virtio.FeatureIndirect} {
			t.Run(fmt.Sprintf("size %d features %#x", tt.size, uint64(features)), func(t *testing.T) {
				g := &graph{m: modelMemory(t), size: tt.size, table: tt.table, accepted: features != 0}
				total := 0
				for more := true; more; more = g.next() {
					g.decided = [2]map[int]*modelDescriptor{{}, {}}
					head := g.pick(tt.size + 1)
					want := g.expected(head)
					if got := popOne(t, g.m, tt.size, features, uint16(head)); !cmp.Equal(got, want) {
						t.Fatalf("head %d, tables %v %v: %s", head, g.decided[0], g.decided[1], cmp.Diff(want, got))
					}
					total++
				}
				t.Logf("%d graphs", total)
			})
		}
	}
}

// popOne has a new queue take the chain that starts at head, and give it back.
func popOne(t *testing.T, m *memory.Guest, size int, features virtio.Features, head uint16) outcome {
	t.Helper()
	put(m, modelAvail+2, 1)
	put(m, modelAvail+4, head)
	put(m, modelUsed+2, 0)
	var o outcome
	q, err := virtio.NewQueue(m, virtio.QueueConfig{
		Size: uint16(size), Desc: modelDesc, Avail: modelAvail, Used: modelUsed, Features: features,
	}, nil, nil, func(error) { o.Broken = true })
	if err != nil {
		t.Fatal(err)
	}
	var c virtio.Chain
	if popped := q.Pop(&c); popped == o.Broken {
		t.Fatalf("Pop is %v of a queue that is broken: %v", popped, o.Broken)
	}
	if o.Broken {
		if q.Pop(&c) {
			t.Fatal("a broken queue gives a chain")
		}
		return o
	}
	for _, piece := range c.Readable {
		o.Readable = append(o.Readable, len(piece))
	}
	for _, piece := range c.Writable {
		o.Writes = append(o.Writes, len(piece))
	}
	q.Push(&c, 0)
	if got := get(m, modelUsed+2); got != 1 || get(m, modelUsed+4) != head {
		t.Fatalf("chain %d came back as %d, the index is %d", head, get(m, modelUsed+4), got)
	}
	return o
}

func put(m *memory.Guest, addr uint64, v uint16) {
	b, err := m.Slice(addr, 2)
	if err != nil {
		panic(err)
	}
	le.PutUint16(b, v)
}

func get(m *memory.Guest, addr uint64) uint16 {
	b, err := m.Slice(addr, 2)
	if err != nil {
		panic(err)
	}
	return le.Uint16(b)
}

// ringModel is the model of a queue's two rings.
type ringModel struct {
	next    uint16   // index of the next chain that the driver makes available
	waiting []uint16 // heads that the device has not taken
	flying  []uint16 // and that it has, ascending
	used    []uint16 // given back by the last step
	broken  bool
}

// A step is one of driver or device.
type step struct {
	kind int
	head uint16
}

// Kinds of steps.
const (
	offer    = iota // the driver makes head available, whatever else it is in
	overflow        // the driver's index runs away
	pop             // the device takes a chain
	push            // the device gives back head, whether it has it or not
	pushAll         // the device gives back all that it has, at once
)

// steps are all that can happen in a queue of size descriptors.
func steps(size int) []step {
	all := []step{{kind: overflow}, {kind: pop}, {kind: pushAll}}
	for head := range uint16(size) {
		all = append(all, step{offer, head}, step{push, head})
	}
	return append(all, step{offer, uint16(size)}) // there is no such descriptor
}

// take does a step in the model.
func (r *ringModel) take(s step, size int) {
	r.used = nil
	switch s.kind {
	case offer:
		r.next++
		r.waiting = append(r.waiting, s.head)
	case overflow:
		r.next += uint16(size) + 1
		r.waiting = append(r.waiting, make([]uint16, size+1)...)
	case pop:
		if r.broken || len(r.waiting) == 0 {
			return
		}
		head := r.waiting[0]
		if len(r.waiting) > size || int(head) >= size || slices.Contains(r.flying, head) {
			r.broken = true
			return
		}
		r.waiting = r.waiting[1:]
		r.flying = append(r.flying, head)
		slices.Sort(r.flying)
	case push:
		if i := slices.Index(r.flying, s.head); i >= 0 {
			r.flying = slices.Delete(r.flying, i, i+1)
			r.used = []uint16{s.head}
		}
	case pushAll:
		r.used, r.flying = r.flying, nil
	}
}

// state tells a state of the model from the others. Indices count in as far as they
// choose a place in the rings; that of the used ring follows from the others. What
// waits counts for nothing in a queue that is broken, or is about to be.
func (r *ringModel) state(size int) string {
	s := []byte{byte(int(r.next) % size), 0, 0xff}
	switch {
	case r.broken:
		s[1] = 1
	case len(r.waiting) > size:
		s[1] = 2
	default:
		for _, head := range r.waiting {
			s = append(s, byte(head))
		}
	}
	s = append(s, 0xff)
	for _, head := range r.flying {
		s = append(s, byte(head))
	}
	return string(s)
}

// rings is a queue, with its driver's side and the model.
type rings struct {
	model  ringModel
	m      *memory.Guest
	q      *virtio.Queue
	size   int
	chains map[uint16]*virtio.Chain
	broken int // how often the driver was told
	used   uint16
}

func newRings(t *testing.T, m *memory.Guest, size int) *rings {
	t.Helper()
	r := &rings{m: m, size: size, chains: map[uint16]*virtio.Chain{}}
	for _, ring := range []uint64{modelAvail, modelUsed} {
		b, err := m.Slice(ring, 64)
		if err != nil {
			t.Fatal(err)
		}
		clear(b)
	}
	for i := range size {
		b, err := m.Slice(modelDesc+16*uint64(i), 16)
		if err != nil {
			t.Fatal(err)
		}
		virtiotest.PutDesc(b, modelBuffer, 1, 0, 0)
	}
	var err error
	r.q, err = virtio.NewQueue(m, virtio.QueueConfig{Size: uint16(size), Desc: modelDesc, Avail: modelAvail, Used: modelUsed},
		nil, nil, func(error) { r.broken++ })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// take does a step in the queue and in the model, and compares.
func (r *rings) take(s step) error {
	r.model.take(s, r.size)
	switch s.kind {
	case offer:
		put(r.m, modelAvail+4+2*uint64(int(r.model.next-1)%r.size), s.head)
		put(r.m, modelAvail+2, r.model.next)
	case overflow:
		put(r.m, modelAvail+2, r.model.next)
	case pop:
		c := new(virtio.Chain)
		before := len(r.chains)
		if r.q.Pop(c) {
			r.chains[c.Head()] = c
			if len(r.chains) == before {
				return fmt.Errorf("chain %d was taken twice", c.Head())
			}
		}
	case push:
		c := r.chains[s.head]
		if c == nil {
			c = new(virtio.Chain) // its head is 0
			if s.head != 0 {
				break
			}
		}
		delete(r.chains, s.head)
		r.q.Push(c, 0)
		r.q.Push(c, 0) // and a second time
	case pushAll:
		var all []*virtio.Chain
		for _, head := range r.model.used {
			all = append(all, r.chains[head])
		}
		clear(r.chains)
		r.q.PushAll(all, 0)
	}
	if got, want := len(r.chains), len(r.model.flying); got != want || r.q.InFlight() != want || want > r.size {
		return fmt.Errorf("%d chains in flight, the queue says %d; want %d", got, r.q.InFlight(), want)
	}
	for _, head := range r.model.flying {
		if r.chains[head] == nil {
			return fmt.Errorf("chain %d is not in flight", head)
		}
	}
	if told := r.broken == 1; r.broken > 1 || told != r.model.broken {
		return fmt.Errorf("the driver was told %d times that the queue is broken; want it: %v", r.broken, r.model.broken)
	}
	for _, head := range r.model.used {
		if got := get(r.m, modelUsed+4+8*uint64(int(r.used)%r.size)); got != head {
			return fmt.Errorf("chain %d came back; want %d", got, head)
		}
		r.used++
	}
	if got := get(r.m, modelUsed+2); got != r.used {
		return fmt.Errorf("%d chains came back; want %d", got, r.used)
	}
	return nil
}

// Every state that the rings of a queue can be in, and from each every step of a
// driver, sane or not, and of the device: each chain is taken once and given back
// once, never more of them are in flight than the queue has descriptors, and what
// makes no sense breaks the queue, once.
func TestEveryRingState(t *testing.T) {
	for _, size := range []int{1, 2, 4} {
		t.Run(fmt.Sprint("size ", size), func(t *testing.T) {
			m := modelMemory(t)
			seen := map[string]bool{new(ringModel).state(size): true}
			paths := [][]step{nil}
			tried := 0
			for len(paths) > 0 {
				path := paths[0]
				paths = paths[1:]
				for _, s := range steps(size) {
					r := newRings(t, m, size)
					full := append(slices.Clone(path), s)
					for i, s := range full {
						if err := r.take(s); err != nil {
							t.Fatalf("after %v: %v", full[:i+1], err)
						}
					}
					tried++
					if state := r.model.state(size); !seen[state] {
						seen[state] = true
						paths = append(paths, full)
					}
				}
			}
			t.Logf("%d states, %d steps", len(seen), tried)
		})
	}
}
