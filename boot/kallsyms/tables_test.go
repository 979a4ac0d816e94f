package kallsyms

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// layout is a way in which scripts/kallsyms.c has written the tables.
type layout struct {
	version   string
	align     int
	addrFirst bool // addresses before the names, not behind the tokens
	byName    bool // with the order by name
	meaning   meaning
	uleb      bool // lengths of two bytes
}

type meaning int

const (
	absolute meaning = iota
	percpuAbsolute
	baseRelative
	placeRelative
)

var layouts = []layout{
	{version: "5.4", align: 8, addrFirst: true, meaning: percpuAbsolute},
	{version: "5.4 without SMP", align: 8, addrFirst: true, meaning: baseRelative},
	{version: "5.4 without relative base", align: 8, addrFirst: true, meaning: absolute},
	{version: "6.1", align: 8, addrFirst: true, meaning: percpuAbsolute, uleb: true},
	{version: "6.2", align: 8, addrFirst: true, byName: true, meaning: percpuAbsolute, uleb: true},
	{version: "6.4", align: 8, byName: true, meaning: percpuAbsolute, uleb: true},
	{version: "6.4 without relative base", align: 8, byName: true, meaning: absolute, uleb: true},
	{version: "6.15", align: 8, byName: true, meaning: baseRelative, uleb: true},
	{version: "7.0", align: 4, byName: true, meaning: placeRelative, uleb: true},
}

const testBase = 0xffff_ffff_8100_0000

// testSymbols are n symbols, for a layout.
func testSymbols(n int, l layout) []Symbol {
	var all []Symbol
	if l.meaning == percpuAbsolute || l.meaning == absolute {
		for i := range 20 {
			all = append(all, Symbol{uint64(i) * 64, 'A', fmt.Sprintf("percpu_%d", i)})
		}
	}
	addr := uint64(testBase)
	for i := len(all); i < n; i++ {
		name := fmt.Sprintf("do_%d_initcall.part.%x", i, i*7919)
		if l.uleb && i%500 == 3 {
			name = "_R" + strings.Repeat("long_name_of_rust_", 12) + name
		}
		all = append(all, Symbol{addr, "tTdDbBrRW"[i%9], name})
		if i%10 != 0 { // some have the same address
			addr += uint64(i%300) * 16
		}
	}
	return all
}

// build writes an image with the tables somewhere in it.
func build(symbols []Symbol, l layout) []byte {
	// Tokens: what is in the names as it is, and a few substrings in the
	// numbers that are left.
	var tokens [256]string
	for _, s := range symbols {
		for _, b := range []byte(string(s.Type) + s.Name) {
			tokens[b] = string(b)
		}
	}
	free := 1 // 0 stays without a text
	for _, sub := range []string{"initcall.", "long_name_", "part.", "do_", "tdo_", "Tdo_", "Apercpu_", "of_rust_", ".p"} {
		tokens[free] = sub
		free++
	}
	longest := func(text string) (best int) {
		for i, t := range tokens {
			if strings.HasPrefix(text, t) && len(t) > len(tokens[best]) {
				best = i
			}
		}
		return best
	}

	image := make([]byte, 4096)
	copy(image, "0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00 not these")
	pad := func() {
		for len(image)%l.align != 0 {
			image = append(image, 0)
		}
	}
	addresses := func() {
		pad()
		for _, s := range symbols {
			off := uint32(s.Addr - testBase)
			switch l.meaning {
			case absolute:
				image = le.AppendUint64(image, s.Addr)
				continue
			case percpuAbsolute:
				if off = uint32(s.Addr); s.Addr >= testBase {
					off = uint32(testBase - s.Addr - 1)
				}
			case placeRelative:
				off = uint32(s.Addr - testBase - uint64(len(image)))
			}
			image = le.AppendUint32(image, off)
		}
		if l.meaning == percpuAbsolute || l.meaning == baseRelative {
			pad()
			image = le.AppendUint64(image, testBase)
		}
	}
	byName := func() {
		pad()
		for i := range symbols { // any order will do
			image = append(image, byte(i>>16), byte(i>>8), byte(i))
		}
	}

	if l.addrFirst {
		addresses()
	}
	pad()
	image = le.AppendUint32(image, uint32(len(symbols)))
	pad()
	var markers []uint32
	start := len(image)
	for i, s := range symbols {
		if i%256 == 0 {
			markers = append(markers, uint32(len(image)-start))
		}
		var codes []byte
		for text := string(s.Type) + s.Name; text != ""; {
			t := longest(text)
			codes = append(codes, byte(t))
			text = text[len(tokens[t]):]
		}
		image = binary.AppendUvarint(image, uint64(len(codes)))
		image = append(image, codes...)
	}
	pad()
	for _, m := range markers {
		image = le.AppendUint32(image, m)
	}
	if l.addrFirst && l.byName {
		byName()
	}
	pad()
	var index []int
	start = len(image)
	for _, t := range tokens {
		index = append(index, len(image)-start)
		image = append(append(image, t...), 0)
	}
	pad()
	for _, i := range index {
		image = le.AppendUint16(image, uint16(i))
	}
	if !l.addrFirst {
		addresses()
		if l.byName {
			byName()
		}
	}
	return append(image, make([]byte, 100)...)
}
