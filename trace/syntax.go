package trace

import (
	"fmt"
	"strings"

	"golang.org/x/arch/x86/x86asm"
)

// syntax is an instruction that lies at pc in Intel's syntax, with the numbers as gdb
// and objdump show them: an immediate has the width of its operand and no sign, a
// displacement from a register has a sign, and memory has a size where the
// instruction has one. Package x86asm shows them otherwise.
func syntax(inst x86asm.Inst, pc uint64, symbol x86asm.SymLookup) string {
	text := strings.ToLower(x86asm.IntelSyntax(inst, pc, symbol))
	name, operands := split(text)
	name = rename(inst, name)
	if stem, implied, ok := stringOperands(inst, name); ok {
		return stem + " " + strings.Join(implied, ", ")
	}
	var args []x86asm.Arg
	for _, a := range inst.Args {
		if a != nil {
			args = append(args, a)
		}
	}
	if inst.Op == x86asm.NOP && len(args) == 1 {
		operands = operands[:1] // the second goes without saying
	}
	// Where x86asm shows fewer operands than there are, or more, they are implied by
	// the instruction's name.
	if len(operands) == len(args) {
		for i, a := range args {
			switch a := a.(type) {
			case x86asm.Imm:
				if !strings.Contains(operands[i], "$") { // a symbol
					operands[i] = immediate(inst, args, uint64(a))
				}
			case x86asm.Mem:
				operands[i] = memoryOperand(inst, pc, a, symbol)
			case x86asm.Rel:
				operands[i] = target(pc+uint64(inst.Len)+uint64(int64(a)), symbol)
			}
		}
	}
	if len(operands) == 0 {
		return name
	}
	return name + " " + strings.Join(operands, ", ")
}

// split takes a text apart into the name of an instruction, with its prefixes, and
// the operands.
func split(text string) (name string, operands []string) {
	words := strings.Split(text, " ")
	n := 1
	for n < len(words) && prefixes[words[n-1]] {
		n++
	}
	if n == len(words) {
		return text, nil
	}
	return strings.Join(words[:n], " "), strings.Split(strings.Join(words[n:], " "), ", ")
}

var prefixes = map[string]bool{
	"lock": true, "rep": true, "repne": true, "data16": true, "data32": true, "addr16": true, "addr32": true, "bnd": true,
	"xacquire": true, "xrelease": true, "hint-taken": true, "hint-not-taken": true,
	"cs": true, "ds": true, "es": true, "ss": true, "fs": true, "gs": true,
}

// conditions are the names of conditions that x86asm takes, and gdb's.
var conditions = map[string]string{"z": "e", "nz": "ne", "nb": "ae", "nbe": "a", "nl": "ge", "nle": "g"}

// rename is the name that gdb has for an instruction.
func rename(inst x86asm.Inst, name string) string {
	for _, stem := range []string{"j", "set", "cmov"} {
		if condition, ok := strings.CutPrefix(name, stem); ok && conditions[condition] != "" {
			return stem + conditions[condition]
		}
	}
	first := byte(inst.Opcode >> 24)
	switch inst.Op {
	case x86asm.MOV:
		_, constant := inst.Args[1].(x86asm.Imm)
		if inst.Mode == 64 && (constant && inst.DataSize == 64 && first&^7 == 0xb8 || first&^3 == 0xa0) {
			return "movabs" // a constant or an address of 64 bits
		}
	case x86asm.POPFQ:
		return "popf"
	case x86asm.PUSHFQ:
		return "pushf"
	case x86asm.XSAVEOPT, x86asm.CLFLUSH:
		for _, p := range inst.Prefix {
			if p&0xff == x86asm.PrefixDataSize { // which x86asm takes for nothing
				return map[x86asm.Op]string{x86asm.XSAVEOPT: "clwb", x86asm.CLFLUSH: "clflushopt"}[inst.Op]
			}
		}
	}
	return name
}

// target is where a branch leads.
func target(addr uint64, symbol x86asm.SymLookup) string {
	if name, base := symbol(addr); name != "" {
		if addr != base {
			name += fmt.Sprintf("%+#x", int64(addr-base))
		}
		return name
	}
	return fmt.Sprintf("%#x", addr)
}

// stringOp are the operands of string instructions by the stem of their name: S is
// memory at RSI, D memory at RDI, A the accumulator and dx the port.
var stringOp = map[string][]string{
	"movs": {"D", "S"}, "cmps": {"S", "D"}, "stos": {"D", "A"}, "lods": {"A", "S"}, "scas": {"A", "D"}, "ins": {"D", "dx"}, "outs": {"dx", "S"},
}

// stringOperands are the name of a string instruction without its width, and its
// operands. It is not ok for other instructions.
func stringOperands(inst x86asm.Inst, name string) (stem string, operands []string, ok bool) {
	last := len(name) - 1
	width := strings.IndexByte("bwdq", name[last])
	stem = strings.ReplaceAll(name[:last], "data16 ", "") // the width says it
	kinds, ok := stringOp[stem[strings.LastIndexByte(stem, ' ')+1:]]
	if !ok || width < 0 || inst.Args[0] != nil && isVector(inst.Args[0]) || inst.Args[1] != nil && isVector(inst.Args[1]) {
		return name, nil, false
	}
	at := map[int]string{16: "", 32: "e", 64: "r"}[inst.AddrSize]
	size := [...]string{"byte", "word", "dword", "qword"}[width]
	source := "ds"
	for _, a := range inst.Args {
		if m, ok := a.(x86asm.Mem); ok && m.Segment != 0 && m.Segment != x86asm.ES {
			source = strings.ToLower(m.Segment.String())
		}
	}
	for _, k := range kinds {
		switch k {
		case "S":
			k = fmt.Sprintf("%s ptr %s:[%ssi]", size, source, at)
		case "D":
			k = fmt.Sprintf("%s ptr es:[%sdi]", size, at)
		case "A":
			k = [...]string{"al", "ax", "eax", "rax"}[width]
		}
		operands = append(operands, k)
	}
	return stem, operands, true
}

// isVector reports whether an operand is a vector register: MOVSD and CMPSD are
// instructions on those, too.
func isVector(a x86asm.Arg) bool {
	r, ok := a.(x86asm.Reg)
	return ok && r >= x86asm.X0 && r <= x86asm.Z31
}

// byteImmediate are the instructions whose immediate is a byte without a sign,
// whatever the width of their operands.
var byteImmediate = map[x86asm.Op]bool{
	x86asm.SHL: true, x86asm.SHR: true, x86asm.SAR: true, x86asm.ROL: true, x86asm.ROR: true, x86asm.RCL: true, x86asm.RCR: true,
	x86asm.SHLD: true, x86asm.SHRD: true, x86asm.BT: true, x86asm.BTS: true, x86asm.BTR: true, x86asm.BTC: true,
	x86asm.IN: true, x86asm.OUT: true, x86asm.INT: true, x86asm.AAM: true, x86asm.AAD: true, x86asm.XABORT: true,
}

func immediate(inst x86asm.Inst, args []x86asm.Arg, v uint64) string {
	bytes := 0
	switch first := byte(inst.Opcode >> 24); {
	case first == 0xd0 || first == 0xd1: // shifts by one
		return "1"
	case byteImmediate[inst.Op]:
		bytes = 1
	case inst.Op == x86asm.RET || inst.Op == x86asm.LRET || inst.Op == x86asm.ENTER:
		bytes = 2
	case inst.Op == x86asm.PUSH:
		if bytes = inst.DataSize / 8; inst.Mode == 64 && bytes == 4 {
			bytes = 8 // sign-extended
		}
	default:
		switch dst := args[0].(type) {
		case x86asm.Reg:
			bytes = registerBytes(dst)
		case x86asm.Mem:
			bytes = inst.MemBytes
		}
	}
	if bytes > 0 && bytes < 8 {
		v &= 1<<(8*bytes) - 1
	}
	return fmt.Sprintf("%#x", v)
}

// registerBytes is the width of a general register; 1 for any other, whose
// instructions have a byte for an immediate.
func registerBytes(r x86asm.Reg) int {
	switch {
	case r >= x86asm.AX && r <= x86asm.R15W:
		return 2
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return 4
	case r >= x86asm.RAX && r <= x86asm.R15:
		return 8
	}
	return 1
}

func memoryOperand(inst x86asm.Inst, pc uint64, m x86asm.Mem, symbol x86asm.SymLookup) string {
	var b strings.Builder
	if size := memoryBytes(inst); size != "" {
		b.WriteString(size + " ptr ")
	}
	if inst.Mode == 64 && m.Segment != x86asm.FS && m.Segment != x86asm.GS || inst.Op == x86asm.LEA {
		m.Segment = 0
	}
	if m.Segment != 0 && m.Segment != defaultSegment(m) {
		b.WriteString(strings.ToLower(m.Segment.String()) + ":")
	}
	if inst.AddrSize != 16 && m.Disp == int64(uint32(m.Disp)) && byte(inst.Opcode>>24)&^3 != 0xa0 {
		m.Disp = int64(int32(m.Disp)) // x86asm leaves out the sign of some
	}
	relative := m.Base == x86asm.RIP || m.Base == x86asm.EIP
	switch {
	case relative && m.Segment == 0:
		if addr := pc + uint64(inst.Len) + uint64(m.Disp); hasSymbol(addr, symbol) {
			b.WriteString("[" + target(addr, symbol) + "]")
			return b.String()
		}
	case m.Base == 0 && m.Index == 0:
		if b.Len() == 0 || !strings.HasSuffix(b.String(), ":") {
			b.WriteString("ds:")
		}
		fmt.Fprintf(&b, "%#x", uint64(m.Disp)&addressMask(inst))
		return b.String()
	}
	b.WriteString("[")
	if m.Base != 0 {
		b.WriteString(strings.ToLower(m.Base.String()))
	}
	if m.Index != 0 {
		if m.Base != 0 {
			b.WriteString("+")
		}
		b.WriteString(strings.ToLower(m.Index.String()))
		if inst.AddrSize != 16 {
			fmt.Fprintf(&b, "*%d", m.Scale)
		}
	}
	switch {
	case relative, m.Base == 0 && m.Disp >= 0:
		fmt.Fprintf(&b, "+%#x", uint64(m.Disp))
	case m.Disp != 0:
		fmt.Fprintf(&b, "%+#x", m.Disp)
	}
	b.WriteString("]")
	return b.String()
}

func hasSymbol(addr uint64, symbol x86asm.SymLookup) bool {
	name, _ := symbol(addr)
	return name != ""
}

// addressMask is all ones in the width of an instruction's addresses.
func addressMask(inst x86asm.Inst) uint64 {
	if inst.AddrSize == 64 {
		return 1<<64 - 1
	}
	return 1<<inst.AddrSize - 1
}

// defaultSegment is the one that goes without saying. Intel SDM vol. 1 §3.7.4.
func defaultSegment(m x86asm.Mem) x86asm.Reg {
	switch m.Base {
	case x86asm.SP, x86asm.ESP, x86asm.RSP, x86asm.BP, x86asm.EBP, x86asm.RBP:
		return x86asm.SS
	}
	return x86asm.DS
}

// memoryBytes is the size of a memory operand by name; "" where the instruction has
// none, or has more than one.
func memoryBytes(inst x86asm.Inst) string {
	switch rename(inst, "") {
	case "clwb":
		return "byte"
	case "movabs":
		return ""
	}
	switch inst.Op {
	case x86asm.XSAVEOPT, x86asm.XSAVEOPT64:
		return ""
	case x86asm.LEA, x86asm.FXSAVE, x86asm.FXRSTOR, x86asm.FXSAVE64, x86asm.FXRSTOR64, x86asm.XSAVE, x86asm.XRSTOR, x86asm.XSAVE64, x86asm.XRSTOR64,
		x86asm.LGDT, x86asm.LIDT, x86asm.SGDT, x86asm.SIDT, x86asm.INVPCID:
		return ""
	case x86asm.CMPXCHG16B:
		return "oword"
	case x86asm.INVLPG, x86asm.PREFETCHW, x86asm.PREFETCHNTA, x86asm.PREFETCHT0, x86asm.PREFETCHT1, x86asm.PREFETCHT2, x86asm.CLFLUSH:
		return "byte"
	}
	switch inst.MemBytes {
	case 1:
		return "byte"
	case 2:
		return "word"
	case 4:
		return "dword"
	case 6:
		return "fword"
	case 8:
		return "qword"
	case 10:
		return "tbyte"
	case 16:
		return "xmmword"
	case 32:
		return "ymmword"
	case 64:
		return "zmmword"
	}
	return ""
}
