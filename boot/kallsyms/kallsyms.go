// Package kallsyms reads the names and addresses of a kernel's functions and
// data out of the kernel itself: the tables that it keeps for its own use, as
// /proc/kallsyms, when it is built with CONFIG_KALLSYMS. Every distribution's
// is. No System.map and no debugging information is needed.
//
// The tables are made by scripts/kallsyms.c in Linux's source tree, and nothing
// says where they are: Find looks for the one that cannot be mistaken.
package kallsyms

import (
	"encoding/binary"
	"iter"
	"slices"
	"sort"
	"strings"
)

var le = binary.LittleEndian

// Symbol is a name and its address.
type Symbol struct {
	Addr uint64
	// Type is a letter as nm(1) prints them: t and T for code.
	Type byte
	Name string
}

// Table are the symbols of a kernel, by ascending address. It holds no
// reference to what it was read from.
type Table struct {
	addrs []uint64
	names names
}

// names are the names of the symbols, by the symbols' numbers.
type names interface {
	name(i int) (kind byte, name string)
	// find is the number of the first symbol with a name, -1 for none.
	find(name string) int
}

// Len is the number of symbols.
func (t *Table) Len() int { return len(t.addrs) }

// All are the symbols, in order.
func (t *Table) All() iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		for i := range t.addrs {
			if !yield(t.symbol(i)) {
				return
			}
		}
	}
}

func (t *Table) symbol(i int) Symbol {
	kind, name := t.names.name(i)
	return Symbol{t.addrs[i], kind, name}
}

// Lookup is the address of the first symbol with a name.
func (t *Table) Lookup(name string) (addr uint64, ok bool) {
	if i := t.names.find(name); i >= 0 {
		return t.addrs[i], true
	}
	return 0, false
}

// At is the symbol that an address belongs to, the nearest at or below it, and
// the address's distance from it. Of several with one address it is the first.
func (t *Table) At(addr uint64) (s Symbol, offset uint64, ok bool) {
	i := sort.Search(len(t.addrs), func(i int) bool { return t.addrs[i] > addr }) - 1
	if i < 0 {
		return Symbol{}, 0, false
	}
	i, _ = slices.BinarySearch(t.addrs, t.addrs[i])
	return t.symbol(i), addr - t.addrs[i], true
}

// Slide moves every symbol of the kernel image: the kernel lies delta bytes
// further up than the table says. Addresses of per-CPU variables, which are
// offsets, stay.
func (t *Table) Slide(delta uint64) {
	for i, a := range t.addrs {
		if a >= kernelHalf {
			t.addrs[i] = a + delta
		}
	}
}

// kernelHalf is where the upper half of the address space begins, the kernel's.
const kernelHalf = 1 << 63

// compressed are names as scripts/kallsyms.c stores them: a length, and as many
// numbers of tokens. The tokens' texts, one after the other, are the type and
// the name.
type compressed struct {
	data    []byte
	markers []uint32 // where every 256th begins
	tokens  *[256]string
}

// entry takes the first name off data: its tokens, and what follows. The length
// is ULEB128, of two bytes at the most; before Linux 6.1 it was one byte, of
// which the highest bit was never set. A token is a byte of the name at the least,
// so that there are no more than a name is long.
func entry(data []byte) (tokens, rest []byte, ok bool) {
	if len(data) == 0 {
		return nil, nil, false
	}
	n, data := int(data[0]), data[1:]
	if n >= 0x80 {
		if len(data) == 0 {
			return nil, nil, false
		}
		n, data = n&0x7f|int(data[0])<<7, data[1:]
	}
	if n == 0 || n > maxName || n > len(data) {
		return nil, nil, false
	}
	return data[:n], data[n:], true
}

// tokensOf are the tokens of symbol i. Find has walked all of them, so that
// they are there.
func (c *compressed) tokensOf(i int) []byte {
	data := c.data[c.markers[i/256]:]
	for range i % 256 {
		_, data, _ = entry(data)
	}
	tokens, _, _ := entry(data)
	return tokens
}

func (c *compressed) name(i int) (byte, string) {
	var b strings.Builder
	for _, t := range c.tokensOf(i) {
		b.WriteString(c.tokens[t])
	}
	return b.String()[0], b.String()[1:]
}

func (c *compressed) find(name string) int {
	for i, data := 0, c.data; ; i++ {
		tokens, rest, ok := entry(data)
		if !ok {
			return -1
		}
		if c.spell(tokens, name) {
			return i
		}
		data = rest
	}
}

// spell reports whether tokens are those of a name.
func (c *compressed) spell(tokens []byte, name string) bool {
	skip := 1 // the type
	for _, t := range tokens {
		var ok bool
		if name, ok = strings.CutPrefix(name, c.tokens[t][skip:]); !ok {
			return false
		}
		skip = 0
	}
	return name == ""
}
