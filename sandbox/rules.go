package sandbox

import (
	"slices"
	"strings"
)

// rule says that a system call may be made, by a process that does one of the things
// in group.
type rule struct {
	group  Group
	nr     uintptr
	checks checks // of arguments: all must hold
	why    string
}

func (r *rule) applies(g Group) bool { return r.group == always || r.group&g != 0 }

// checks are conditions that must all hold.
type checks []check

// check says that an argument, as far as the mask goes, is one of some values. The
// kernel takes the arguments that are checked as 32-bit numbers, and so do we.
type check struct {
	arg  int
	mask uint32
	any  list
}

// list are values with their names.
type list []value

type value struct {
	n    uint32
	name string
}

// ownProcess stands for the number of this process.
const ownProcess = 0xffff_fffe

// arg says that an argument is one of a list.
func arg(n int, values list) checks { return checks{{n, ^uint32(0), values}} }

// is says that the bits of an argument that are in mask have a value.
func is(n int, mask, v uint32, name string) checks { return checks{{n, mask, list{{v, name}}}} }

// without says that bits of an argument are not set.
func without(n int, bits uint32) checks { return is(n, bits, 0, "no PROT_EXEC") }

// zero says that a pointer is nil, as far as its lower half tells; a filter sees no
// more of what pointers lead to.
func zero(n int, name string) checks { return is(n, ^uint32(0), 0, name) }

// limits are the checks for a person.
func (r *rule) limits() string {
	var all []string
	for _, c := range r.checks {
		var names []string
		for _, v := range c.any {
			if v.name != "" && !slices.Contains(names, v.name) {
				names = append(names, v.name)
			}
		}
		if len(names) > 0 {
			all = append(all, strings.Join(names, ", "))
		}
	}
	return strings.Join(all, "; ")
}
