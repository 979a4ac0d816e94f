package gdb

import (
	"fmt"
	"strings"
)

// flags is a type of registers whose bits have names, which gdb prints.
type flags struct {
	id   string
	size int // bytes
	// bits are the names of bit 0, 1 and so on: - for none, and _ for one that is
	// always set and that gdb is to pass over.
	bits string
}

// The types. Intel SDM vol. 1 §3.4.3, §10.2.3, vol. 3 §2.5, §2.2.1.
var (
	eflags = flags{"i386_eflags", 4, "CF _ PF - AF - ZF SF TF IF DF OF - - NT - RF VM AC - - ID"}
	mxcsr  = flags{"i386_mxcsr", 4, "IE DE ZE OE UE PE"}
	cr0    = flags{"cr0_flags", 8, "PE MP EM TS ET NE - - - - - - - - - - WP - AM - - - - - - - - - - NW CD PG"}
	cr4    = flags{"cr4_flags", 8, "VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT UMIP LA57 - - - FSGSBASE PCIDE OSXSAVE - SMEP SMAP"}
	efer   = flags{"efer_flags", 8, "SCE - - - - - - - LME - LMA NXE"}
)

// xml is the type in a target description. GDB "Target Description Format".
func (f flags) xml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<flags id=%q size=\"%d\">", f.id, f.size)
	for i, name := range strings.Fields(f.bits) {
		if name != "-" {
			fmt.Fprintf(&b, "<field name=%q start=\"%d\" end=\"%d\"/>", strings.Trim(name, "_"), i, i)
		}
	}
	b.WriteString("</flags>")
	return b.String()
}

// set are the names of the bits that are set in a value.
func (f flags) set(v uint64) string {
	var names []string
	for i, name := range strings.Fields(f.bits) {
		if v>>i&1 != 0 && name != "-" && name != "_" {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// Flags are the names of the bits that are set in a value of the register: "ZF
// IF"; "" of a register whose bits have none.
func (r Register) Flags(v uint64) string {
	switch r {
	case EFLAGS:
		return eflags.set(v)
	case MXCSR:
		return mxcsr.set(v)
	case CR0:
		return cr0.set(v)
	case CR4:
		return cr4.set(v)
	case EFER:
		return efer.set(v)
	}
	return ""
}
