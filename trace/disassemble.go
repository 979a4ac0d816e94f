package trace

// Instruction is a line of a disassembly.
type Instruction struct {
	Addr uint64
	Code []byte
	// Text is the instruction in Intel's syntax, with symbols by name, or
	// NoInstruction.
	Text string
	// Symbol is the function that holds it, and how far into it that is; "" where
	// it is not known.
	Symbol string
}

// NoInstruction stands for a byte that begins no instruction.
const NoInstruction = "(bad)"

// Disassemble makes instructions of code that lies at an address, for a processor
// in a mode: 16, 32 or 64 bits. What is cut off at the end is left out. Symbols may
// be nil.
func Disassemble(code []byte, addr uint64, mode int, symbols Symbols) []Instruction {
	d := decoder{symbols: symbols}
	var all []Instruction
	for len(code) > 0 {
		line := Instruction{Addr: addr, Text: NoInstruction, Symbol: d.place(addr)}
		n := 1
		if text, size, err := disassemble(code, addr, mode, d.name); err == nil {
			n, line.Text = size, text
		} else if len(code) < maxInsn {
			break // perhaps one that goes on
		}
		line.Code = code[:n]
		code, addr = code[n:], addr+uint64(n)
		all = append(all, line)
	}
	return all
}

// place is where an address is, by symbol: "start_kernel+0x10".
func (d *decoder) place(addr uint64) string {
	if d.symbols == nil {
		return ""
	}
	name, off := d.symbols.Symbol(addr)
	if name != "" && off != 0 {
		name += "+" + Hex(off).String()
	}
	return name
}
