package trace

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// halves has two functions.
type halves struct{}

func (halves) Symbol(addr uint64) (string, uint64) {
	if addr < 0x1003 {
		return "", 0
	}
	return "f", addr - 0x1003
}

func TestDisassemble(t *testing.T) {
	code := []byte{
		0x66, 0xb8, 0x34, 0x12, //             16 and 64 bits do not agree on its length
		0x06, 0x07, //                         none in 64 bits
		0xeb, 0xfb, //                         jmp
		0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
		0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
		0xe8, 0x00, //                         a call that is cut off
	}
	got := Disassemble(code, 0x1000, 64, halves{})
	if len(got) < 5 {
		t.Fatalf("%+v", got)
	}
	want := []Instruction{
		{0x1000, code[:4], "mov ax, 0x1234", ""},
		{0x1004, code[4:5], "(bad)", "f+0x1"},
		{0x1005, code[5:6], "(bad)", "f+0x2"},
		{0x1006, code[6:8], "jmp f", "f+0x3"},
		{0x1008, code[8:9], "nop", "f+0x5"},
	}
	if diff := cmp.Diff(want, got[:5]); diff != "" {
		t.Error(diff)
	}
	if last := got[len(got)-1]; last.Addr != 0x1017 {
		t.Errorf("the last is %+v; want the last nop", last)
	}
	if got := Disassemble(code, 0x1000, 16, nil); got[0].Text != "mov eax, 0x7061234" || got[0].Symbol != "" {
		t.Errorf("in 16 bits: %+v", got[0])
	}
}
