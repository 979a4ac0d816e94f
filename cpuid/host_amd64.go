package cpuid

// execute executes CPUID.
func execute(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// Execute is what CPUID says of a leaf and subleaf on this processor, which is
// taken to have it.
func Execute(leaf, subleaf uint32) Leaf {
	l := Leaf{Function: leaf, Index: subleaf}
	l.EAX, l.EBX, l.ECX, l.EDX = execute(leaf, subleaf)
	return l
}

// Host is what CPUID says on this processor, of the leaves of others, which
// stand for those that matter, and of its own first of each range.
func Host(others []Leaf) []Leaf {
	want := map[[2]uint32]bool{}
	for _, l := range others {
		want[[2]uint32{l.Function, l.Index}] = l.Indexed
	}
	for _, first := range []uint32{0, extended} {
		if highest, _, _, _ := execute(first, 0); highest >= first && highest < first+0x100 {
			for f := first; f <= highest; f++ {
				if _, known := want[[2]uint32{f, 0}]; !known {
					want[[2]uint32{f, 0}] = false
				}
			}
		}
	}
	var leaves []Leaf
	for key, indexed := range want {
		l := Leaf{Function: key[0], Index: key[1], Indexed: indexed}
		l.EAX, l.EBX, l.ECX, l.EDX = execute(l.Function, l.Index)
		leaves = append(leaves, l)
	}
	sortLeaves(leaves)
	return leaves
}
