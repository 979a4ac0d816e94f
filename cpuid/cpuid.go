// Package cpuid names what the CPUID instruction says, and compares what it says
// in different places: on the host, in KVM, in a guest. Intel SDM vol. 2,
// "CPUID"; AMD APM vol. 3, appendix E; KVM cpuid.rst.
package cpuid

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Leaf is what CPUID says for a function (EAX) and, where Indexed, an index
// (ECX).
type Leaf struct {
	Function uint32 `json:"function"`
	Index    uint32 `json:"index"`
	Indexed  bool   `json:"indexed,omitempty"`
	EAX      uint32 `json:"eax"`
	EBX      uint32 `json:"ebx"`
	ECX      uint32 `json:"ecx"`
	EDX      uint32 `json:"edx"`
}

const extended = 0x8000_0000

// values are the leaf's registers.
func (l Leaf) values() [4]uint32 { return [4]uint32{l.EAX, l.EBX, l.ECX, l.EDX} }

var registerNames = [4]string{"eax", "ebx", "ecx", "edx"}

func sortLeaves(leaves []Leaf) {
	slices.SortFunc(leaves, func(a, b Leaf) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.Index, b.Index))
	})
}

// Where is a place that CPUID was asked in.
type Where struct {
	Name   string // "host", "KVM", "guest"
	Leaves []Leaf
}

// find is a place's leaf, or zeros, which is what CPUID says where it knows
// nothing.
func (w *Where) find(function, index uint32) (Leaf, bool) {
	i := slices.IndexFunc(w.Leaves, func(l Leaf) bool { return l.Function == function && (l.Index == index || !l.Indexed) })
	if i < 0 {
		return Leaf{Function: function, Index: index}, false
	}
	return w.Leaves[i], true
}

// Text writes the leaves of all places beside each other, and the names of the
// features of each. With onlyDifferent, only what is not the same everywhere.
func Text(places []Where, onlyDifferent bool) string {
	var all []Leaf
	seen := map[[2]uint32]bool{}
	for _, p := range places {
		for _, l := range p.Leaves {
			if key := [2]uint32{l.Function, l.Index}; !seen[key] {
				seen[key] = true
				all = append(all, l)
			}
		}
	}
	sortLeaves(all)
	var b strings.Builder
	for _, l := range all {
		if text := leafText(places, l, onlyDifferent); text != "" {
			title := fmt.Sprintf("%#x", l.Function)
			if l.Indexed {
				title += fmt.Sprintf(", index %d", l.Index)
			}
			if name := leafNames[l.Function]; name != "" {
				title += "  " + name
			}
			b.WriteString(title + "\n" + text)
		}
	}
	return b.String()
}

// leafText is one leaf: a line a place, and features that differ.
func leafText(places []Where, key Leaf, onlyDifferent bool) string {
	var b strings.Builder
	same := true
	var first [4]uint32
	for i := range places {
		l, _ := places[i].find(key.Function, key.Index)
		if i == 0 {
			first = l.values()
		}
		same = same && l.values() == first
		fmt.Fprintf(&b, "  %-6s eax %08x  ebx %08x  ecx %08x  edx %08x%s\n", places[i].Name, l.EAX, l.EBX, l.ECX, l.EDX, letters(l))
	}
	if same && onlyDifferent {
		return ""
	}
	for r := range 4 {
		names, ok := featureNames[featureKey{key.Function, key.Index, r}]
		if !ok {
			continue
		}
		if len(places) == 1 {
			if set := bitNames(names, first[r]); set != "" {
				fmt.Fprintf(&b, "         %s: %s\n", registerNames[r], set)
			}
			continue
		}
		for i := 1; i < len(places); i++ {
			a, _ := places[i-1].find(key.Function, key.Index)
			c, _ := places[i].find(key.Function, key.Index)
			was, is := a.values()[r], c.values()[r]
			if lost := bitNames(names, was&^is); lost != "" {
				fmt.Fprintf(&b, "         %s: in %s, not in %s: %s\n", registerNames[r], places[i-1].Name, places[i].Name, lost)
			}
			if gained := bitNames(names, is&^was); gained != "" {
				fmt.Fprintf(&b, "         %s: in %s, not in %s: %s\n", registerNames[r], places[i].Name, places[i-1].Name, gained)
			}
		}
	}
	return b.String()
}

// letters are the characters in the leaves that hold text.
func letters(l Leaf) string {
	var regs []uint32
	switch {
	case l.Function == 0 || l.Function == extended && l.EBX != 0:
		regs = []uint32{l.EBX, l.EDX, l.ECX} // the vendor. Intel SDM vol. 2, table 3-8
	case l.Function == 0x4000_0000:
		regs = []uint32{l.EBX, l.ECX, l.EDX}
	case l.Function >= 0x8000_0002 && l.Function <= 0x8000_0004:
		regs = []uint32{l.EAX, l.EBX, l.ECX, l.EDX}
	default:
		return ""
	}
	var text []byte
	for _, r := range regs {
		for i := range 4 {
			if c := byte(r >> (8 * i)); c >= ' ' && c <= '~' {
				text = append(text, c)
			}
		}
	}
	return fmt.Sprintf("  %q", text)
}

// bitNames are the names of the bits that are set.
func bitNames(names []string, v uint32) string {
	var set []string
	for i := range 32 {
		if v>>i&1 == 0 {
			continue
		}
		name := fmt.Sprintf("bit %d", i)
		if i < len(names) && names[i] != "" && names[i] != "-" {
			name = names[i]
		}
		set = append(set, name)
	}
	return strings.Join(set, ", ")
}

// Missing are the features that a guest has been told of, and that are not among those
// which are supported, by name.
func Missing(told, supported []Leaf) []string {
	here := Where{Leaves: supported}
	var all []string
	for _, l := range told {
		have, _ := here.find(l.Function, l.Index)
		for r := range 4 {
			names, ok := featureNames[featureKey{l.Function, l.Index, r}]
			if !ok {
				continue
			}
			if lost := l.values()[r] &^ have.values()[r] &^ perGuest[featureKey{l.Function, l.Index, r}]; lost != 0 {
				for _, name := range strings.Split(bitNames(names, lost), ", ") {
					if !slices.Contains(all, name) { // AMD has some in two leaves
						all = append(all, name)
					}
				}
			}
		}
	}
	return all
}

// perGuest are bits that are not the host's to support: they tell of the machine, or
// follow what the guest does.
var perGuest = map[featureKey]uint32{
	{1, 0, ecx}:           1<<3 | 1<<24 | 1<<27 | 1<<31, // monitor, tsc_deadline_timer, osxsave, hypervisor
	{1, 0, edx}:           1<<9 | 1<<28,                 // apic, ht
	{7, 0, ecx}:           1 << 4,                       // ospke
	{0x8000_0001, 0, ecx}: 1 << 1,                       // cmp_legacy
	{0x8000_0001, 0, edx}: 1 << 9,                       // apic
}
