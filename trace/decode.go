package trace

import (
	"bytes"
	"errors"

	"golang.org/x/arch/x86/x86asm"
)

// plain are instructions without operands that x86asm does not know. Intel SDM vol. 2;
// AMD APM vol. 3.
var plain = []struct {
	code []byte
	name string
}{
	{[]byte{0x0f, 0x01, 0xc1}, "vmcall"},
	{[]byte{0x0f, 0x01, 0xca}, "clac"},
	{[]byte{0x0f, 0x01, 0xcb}, "stac"},
	{[]byte{0x0f, 0x01, 0xd9}, "vmmcall"},
	{[]byte{0x0f, 0x01, 0xe8}, "serialize"},
	{[]byte{0x0f, 0x01, 0xfa}, "monitorx rax, ecx, edx"},
	{[]byte{0x0f, 0x01, 0xfb}, "mwaitx eax, ecx, ebx"},
	{[]byte{0xf3, 0x0f, 0x1e, 0xfa}, "endbr64"},
	{[]byte{0xf3, 0x0f, 0x1e, 0xfb}, "endbr32"},
}

var errNotInstruction = errors.New("not an instruction")

// disassemble is the text and length of the instruction that code begins with, which
// lies at pc.
func disassemble(code []byte, pc uint64, mode int, symbol x86asm.SymLookup) (text string, n int, err error) {
	for _, p := range plain {
		if bytes.HasPrefix(code, p.code) {
			return p.name, len(p.code), nil
		}
	}
	inst, err := x86asm.Decode(code, mode)
	if err == nil && inst.Op == 0 {
		err = errNotInstruction
	}
	if err != nil {
		return "", 0, err
	}
	return syntax(inst, pc, symbol), inst.Len, nil
}
