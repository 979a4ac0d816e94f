package kallsyms

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The tables lie in the kernel's .rodata, in one of these orders:
//
//	5.4   offsets, relative base, number, names, markers, tokens, token index
//	6.2   offsets, relative base, number, names, markers, by name, tokens, token index
//	6.4   number, names, markers, tokens, token index, offsets, relative base, by name
//	7.0   number, names, markers, tokens, token index, offsets, by name
//
// Up to 6.10, there can be addresses instead of offsets and the relative base.
// Each table is aligned to 8 bytes, from 7.0 on to 4. In all of them, number to
// tokens are in a row, apart from the order by name, of 3 bytes a symbol.
//
// Offsets, of 32 bits, mean one of three things:
//
//	with --absolute-percpu (x86 with SMP, to 6.14): if negative, the address
//	  is the relative base - 1 - offset; otherwise the offset itself
//	without it: the address is the relative base + offset
//	from 7.0 on: the address is that of the offset itself + offset

// Bounds on what is believed, for the image may be a hostile guest's memory.
// Debian's kernels have 200,000 symbols, with 6 MiB of text.
const (
	minSymbols = 512
	maxSymbols = 1 << 19
	// maxText is the sum of all names as they are spelled, in bytes, and so a
	// bound on the tokens as well.
	maxText = 16 << 20
	// maxTables is how far the number of symbols can be in front of the tokens,
	// in bytes: the names with their lengths, the markers, the order by name.
	maxTables = maxText + 6*maxSymbols
	// maxWork bounds a whole search, whatever the image holds. A unit is about a
	// nanosecond; the search of a kernel takes a tenth.
	maxWork = 100_000_000
)

// maxName is the length of a name or of a token's text, with its zero:
// KSYM_NAME_LEN of Linux.
const maxName = 512

var (
	errNone = errors.New("no symbols in the kernel: it was built without CONFIG_KALLSYMS")
	errWork = errors.New("no symbols in the kernel: too much in its memory resembles symbol tables and is none")
)

// digits are how the token table is found: their tokens are themselves, for every
// digit is in a name somewhere.
var digits = []byte("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00")

// Find finds the symbols of a kernel in its memory image, whose first byte has
// the virtual address base; that is a multiple of 8 at the least. Relocated or
// not: in a kernel to 6.19, the addresses are those that the image has been
// relocated to, whatever base is.
//
// The image may change meanwhile, and hold anything: the search ends within a
// fraction of a second, or when ctx does, and a table's names have bounds.
func Find(ctx context.Context, image []byte, base uint64) (*Table, error) {
	f := finder{ctx: ctx, image: image, base: base}
	const window = 1 << 20
	for from := 0; from < len(image) && f.spend(window/16); {
		end := min(from+window+len(digits)-1, len(image))
		i := bytes.Index(image[from:end], digits)
		if i < 0 {
			from += window
			continue
		}
		from += i + 1
		if !f.tokenTable(from - 1) {
			continue
		}
		t, err := f.symbols()
		if err != nil || t != nil {
			return t, err
		}
	}
	return nil, cmp.Or(f.err, errNone)
}

type finder struct {
	ctx   context.Context
	image []byte
	base  uint64
	work  int
	asked int   // the work when the context was last looked at
	err   error // why the search ends

	tokens               [256]string
	begins               [256]bool // a name can begin with the token
	tokenStart, tokenEnd int       // the table of tokens, with their index
}

// spend accounts for work, and reports whether the search may go on.
func (f *finder) spend(units int) bool {
	f.work += units
	if f.work > maxWork {
		f.err = errWork
	} else if f.work-f.asked > 1<<20 && f.err == nil {
		f.asked = f.work
		f.err = f.ctx.Err()
	}
	return f.err == nil
}

// tokenTable reads the tokens around that of the digit 0, and their index
// behind them, with which they must agree.
func (f *finder) tokenTable(zero int) bool {
	if !f.spend(50_000) {
		return false
	}
	end := zero
	for range 256 - '0' {
		n := bytes.IndexByte(f.image[end:min(end+maxName, len(f.image))], 0)
		if n < 0 {
			return false
		}
		end += n + 1
	}
	for _, align := range []int{8, 4} {
		index := alignUp(end, align)
		if len(f.image)-index < 512 {
			continue
		}
		start := zero - int(le.Uint16(f.image[index+2*'0':]))
		if start < 0 || start%align != 0 {
			continue
		}
		if f.readTokens(start, end, f.image[index:]) {
			f.tokenStart, f.tokenEnd = start, index+512
			return true
		}
	}
	return false
}

func (f *finder) readTokens(start, end int, index []byte) bool {
	at := start
	for i := range f.tokens {
		n := bytes.IndexByte(f.image[at:min(at+maxName, end)], 0)
		if n < 0 || int(le.Uint16(index[2*i:])) != at-start {
			return false
		}
		f.tokens[i] = string(f.image[at : at+n])
		f.begins[i] = isType(f.tokens[i])
		at += n + 1
	}
	return at == end
}

// symbols looks for the number of symbols, backwards from the tokens, and for
// the addresses. It is nil where the tables around the tokens make no sense.
func (f *finder) symbols() (*Table, error) {
	for at := f.tokenStart&^3 - 4; at >= max(f.tokenStart-maxTables, 0); at -= 4 {
		if at%4096 == 0 && !f.spend(1024) {
			break
		}
		n := int(le.Uint32(f.image[at:]))
		// A name takes two bytes at least.
		if n < minSymbols || n > maxSymbols || 2*n > f.tokenStart-at {
			continue
		}
		for _, align := range []int{8, 4} {
			if at%align != 0 {
				continue
			}
			c := f.names(alignUp(at+4, align), n, align)
			if c == nil {
				continue
			}
			for _, addrs := range f.addresses(at, n) {
				if plausible(addrs) {
					return &Table{addrs, c}, nil
				}
			}
			return nil, fmt.Errorf("the kernel has %d symbols, and their addresses are in no order that Linux 5.4 to 7 uses", n)
		}
	}
	return nil, nil
}

// names reads the names of n symbols and the markers behind them, and nil where
// these are not that, or do not lead to the tokens.
func (f *finder) names(start, n, align int) *compressed {
	for _, end := range []int{f.tokenStart, alignDown(f.tokenStart-3*n, align)} {
		// The markers come before the tokens, or the order by name. The first
		// is 0 and the second is not: that rules out most of what is no table.
		at := alignDown(end-4*((n+255)/256), align)
		if at <= start || le.Uint32(f.image[at:]) != 0 || le.Uint32(f.image[at+4:]) == 0 {
			continue
		}
		if !f.spend(64) {
			return nil
		}
		// The image may be a guest's memory, which changes: what is kept is a
		// copy, and only that is looked at.
		data := f.image[start:at]
		if markers, size := f.walk(data, n); markers == nil || alignUp(start+size, align) != at {
			continue
		}
		if !f.spend(2 * len(data)) {
			return nil
		}
		data = slices.Clone(data)
		markers, size := f.walk(data, n)
		if markers == nil || !f.marked(at, markers) || !f.spelled(data, n) {
			continue
		}
		tokens := f.tokens
		return &compressed{data: data[:size], markers: markers, tokens: &tokens}
	}
	return nil
}

// marked reports whether the markers are at a place.
func (f *finder) marked(at int, markers []uint32) bool {
	for i, m := range markers {
		if le.Uint32(f.image[at+4*i:]) != m {
			return false
		}
	}
	return true
}

// walk goes through n names: where every 256th begins, and where the last one
// ends. It returns nil where they are none.
func (f *finder) walk(data []byte, n int) (markers []uint32, end int) {
	rest := data
	for i := range n {
		at := len(data) - len(rest)
		if i%256 == 0 {
			if !f.spend(256 * 8) {
				return nil, 0
			}
			markers = append(markers, uint32(at))
		}
		tokens, after, ok := entry(rest)
		if !ok || !f.begins[tokens[0]] {
			return nil, 0
		}
		rest = after
	}
	return markers, len(data) - len(rest)
}

// spelled reports whether n names are as short as names are, and all of them
// together.
func (f *finder) spelled(data []byte, n int) bool {
	var lengths [256]int
	for i, t := range f.tokens {
		lengths[i] = len(t)
	}
	sum := 0
	for range n {
		var tokens []byte
		tokens, data, _ = entry(data)
		length := 0
		for _, t := range tokens {
			length += lengths[t]
		}
		if sum += length; length > maxName || sum > maxText {
			return false
		}
	}
	return true
}

// isType reports whether a symbol can begin with a token: with the letter of a
// type, as nm(1) has them.
func isType(token string) bool {
	return token != "" && strings.IndexByte("aAbBcCdDgGiInNpPrRsStTuUvVwW-?", token[0]) >= 0
}

// addresses are what the addresses of the n symbols can be, the likelier first.
// The number of symbols is at position at.
func (f *finder) addresses(at, n int) [][]uint64 {
	var all [][]uint64
	after := alignUp(f.tokenEnd, 8)
	all = append(all, f.relative(after, alignUp(after+4*n, 8), n)...)
	all = append(all, f.relative(at-8-alignUp(4*n, 8), at-8, n)...)
	all = append(all, f.absolute(after, n), f.absolute(at-8*n, n))
	return append(all, f.placeRelative(alignUp(f.tokenEnd, 4), n))
}

// relative are the addresses by offsets from a base. The base is that of the
// kernel, page-aligned: anything else is not the base.
func (f *finder) relative(offsets, base, n int) [][]uint64 {
	if offsets < 0 || offsets%8 != 0 || base+8 > len(f.image) {
		return nil
	}
	b := le.Uint64(f.image[base:])
	if b < kernelHalf || b%4096 != 0 {
		return nil
	}
	percpu, plain := make([]uint64, n), make([]uint64, n)
	for i := range n {
		off := le.Uint32(f.image[offsets+4*i:])
		plain[i] = b + uint64(off)
		if percpu[i] = uint64(off); int32(off) < 0 {
			percpu[i] = b - 1 - uint64(int64(int32(off)))
		}
	}
	return [][]uint64{percpu, plain}
}

func (f *finder) absolute(at, n int) []uint64 {
	if at < 0 || at+8*n > len(f.image) {
		return nil
	}
	addrs := make([]uint64, n)
	for i := range addrs {
		addrs[i] = le.Uint64(f.image[at+8*i:])
	}
	return addrs
}

func (f *finder) placeRelative(at, n int) []uint64 {
	if at+4*n > len(f.image) {
		return nil
	}
	addrs := make([]uint64, n)
	for i := range addrs {
		place := at + 4*i
		addrs[i] = f.base + uint64(place) + uint64(int64(int32(le.Uint32(f.image[place:]))))
	}
	return addrs
}

// plausible reports whether addresses are those of a kernel: in order, the last
// of them in the kernel's half.
func plausible(addrs []uint64) bool {
	return len(addrs) > 0 && addrs[len(addrs)-1] >= kernelHalf && slices.IsSorted(addrs)
}

func alignUp(n, align int) int { return alignDown(n+align-1, align) }

func alignDown(n, align int) int { return n &^ (align - 1) }
