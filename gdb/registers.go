package gdb

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

var le = binary.LittleEndian

// Register is a register by the number that gdb knows it by: its place in the
// target description.
type Register int

// The registers, in the order of gdb's own descriptions of x86-64 (features
// org.gnu.gdb.i386.core, .sse and .segments), and those of the system.
const (
	RAX Register = iota
	RBX
	RCX
	RDX
	RSI
	RDI
	RBP
	RSP
	R8
	R9
	R10
	R11
	R12
	R13
	R14
	R15
	RIP
	EFLAGS
	CS
	SS
	DS
	ES
	FS
	GS
	ST0                     // to ST7
	FCTRL     Register = 32 // and the seven that follow
	XMM0      Register = 40 // to XMM15
	MXCSR     Register = 56 //
	FSBase    Register = 57 //
	GSBase    Register = 58
	CR0       Register = 59
	CR2       Register = 60
	CR3       Register = 61
	CR4       Register = 62
	CR8       Register = 63
	EFER      Register = 64
	APICBase  Register = 65
	GDTBase   Register = 66
	GDTLimit  Register = 67
	IDTBase   Register = 68
	IDTLimit  Register = 69
	TR        Register = 70
	LDTR      Register = 71
	registers          = 72
)

// feature is a part of the target description.
type feature struct {
	name  string
	types string
	regs  []register
}

type register struct {
	name  string
	bits  int
	kind  string // gdb's type
	group string
}

const sseTypes = `<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/><vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/><vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/><union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/><field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>`

// description is the target description, GDB appendix "Target Descriptions".
func description() []feature {
	core := feature{name: "org.gnu.gdb.i386.core", types: eflags.xml()}
	for _, name := range strings.Fields("rax rbx rcx rdx rsi rdi") {
		core.regs = append(core.regs, register{name: name, bits: 64, kind: "int64"})
	}
	core.regs = append(core.regs, register{name: "rbp", bits: 64, kind: "data_ptr"}, register{name: "rsp", bits: 64, kind: "data_ptr"})
	for i := 8; i < 16; i++ {
		core.regs = append(core.regs, register{name: fmt.Sprintf("r%d", i), bits: 64, kind: "int64"})
	}
	core.regs = append(core.regs, register{name: "rip", bits: 64, kind: "code_ptr"}, register{name: "eflags", bits: 32, kind: "i386_eflags"})
	for _, name := range strings.Fields("cs ss ds es fs gs") {
		core.regs = append(core.regs, register{name: name, bits: 32, kind: "int32"})
	}
	for i := range 8 {
		core.regs = append(core.regs, register{name: fmt.Sprintf("st%d", i), bits: 80, kind: "i387_ext"})
	}
	for _, name := range strings.Fields("fctrl fstat ftag fiseg fioff foseg fooff fop") {
		core.regs = append(core.regs, register{name: name, bits: 32, kind: "int", group: "float"})
	}
	sse := feature{name: "org.gnu.gdb.i386.sse", types: sseTypes + mxcsr.xml()}
	for i := range 16 {
		sse.regs = append(sse.regs, register{name: fmt.Sprintf("xmm%d", i), bits: 128, kind: "vec128"})
	}
	sse.regs = append(sse.regs, register{name: "mxcsr", bits: 32, kind: "i386_mxcsr", group: "vector"})
	segments := feature{name: "org.gnu.gdb.i386.segments", regs: []register{
		{name: "fs_base", bits: 64, kind: "int"}, {name: "gs_base", bits: 64, kind: "int"},
	}}
	system := feature{name: "org.vmm.system", types: cr0.xml() + cr4.xml() + efer.xml(), regs: []register{
		{name: "cr0", bits: 64, kind: "cr0_flags", group: "system"}, {name: "cr2", bits: 64, kind: "data_ptr", group: "system"},
		{name: "cr3", bits: 64, kind: "int64", group: "system"}, {name: "cr4", bits: 64, kind: "cr4_flags", group: "system"},
		{name: "cr8", bits: 64, kind: "int64", group: "system"}, {name: "efer", bits: 64, kind: "efer_flags", group: "system"},
		{name: "apic_base", bits: 64, kind: "int64", group: "system"},
		{name: "gdt_base", bits: 64, kind: "data_ptr", group: "system"}, {name: "gdt_limit", bits: 32, kind: "int32", group: "system"},
		{name: "idt_base", bits: 64, kind: "data_ptr", group: "system"}, {name: "idt_limit", bits: 32, kind: "int32", group: "system"},
		{name: "tr", bits: 32, kind: "int32", group: "system"}, {name: "ldtr", bits: 32, kind: "int32", group: "system"},
	}}
	return []feature{core, sse, segments, system}
}

// describe is the register in the target description.
func (r Register) describe() register {
	n := int(r)
	for _, f := range description() {
		if n < len(f.regs) {
			return f.regs[n]
		}
		n -= len(f.regs)
	}
	return register{}
}

// String is the register's name, "" where there is none: "rax".
func (r Register) String() string { return r.describe().name }

// Bits is the register's width.
func (r Register) Bits() int { return r.describe().bits }

// targetXML is the target description as gdb reads it.
func targetXML(features []feature) string {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target>\n<architecture>i386:x86-64</architecture>\n")
	n := 0
	for _, f := range features {
		fmt.Fprintf(&b, "<feature name=%q>\n%s\n", f.name, f.types)
		for _, r := range f.regs {
			fmt.Fprintf(&b, "<reg name=%q bitsize=\"%d\" type=%q regnum=\"%d\"", r.name, r.bits, r.kind, n)
			if r.group != "" {
				fmt.Fprintf(&b, " group=%q", r.group)
			}
			b.WriteString("/>\n")
			n++
		}
		b.WriteString("</feature>\n")
	}
	b.WriteString("</target>\n")
	return b.String()
}

// Registers are the registers of a processor.
type Registers struct {
	values [registers][16]byte // little-endian
}

// Uint is the value of a register, or its lower 64 bits.
func (r *Registers) Uint(reg Register) uint64 { return le.Uint64(r.values[reg][:]) }

// SetUint sets a register to a value.
func (r *Registers) SetUint(reg Register, v uint64) { le.PutUint64(r.values[reg][:], v) }

// Bytes are the bytes of a register, of which gdb sees as many as it has.
func (r *Registers) Bytes(reg Register) []byte { return r.values[reg][:] }

// layout are the sizes of all registers, in bytes.
func layout(features []feature) []int {
	var sizes []int
	for _, f := range features {
		for _, r := range f.regs {
			sizes = append(sizes, r.bits/8)
		}
	}
	return sizes
}

// appendHex appends a register as a packet has it.
func (r *Registers) appendHex(b []byte, reg Register, size int) []byte {
	return hex.AppendEncode(b, r.values[reg][:size])
}

// setHex sets a register from a packet.
func (r *Registers) setHex(reg Register, size int, text []byte) bool {
	if len(text) != 2*size {
		return false
	}
	_, err := hex.Decode(r.values[reg][:size], text)
	return err == nil
}
