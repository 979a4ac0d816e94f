package gdb

import "testing"

func TestRegister(t *testing.T) {
	for _, tt := range []struct {
		r     Register
		value uint64
		name  string
		bits  int
		flags string
	}{
		{RAX, 1, "rax", 64, ""},
		{EFLAGS, 0x246, "eflags", 32, "PF ZF IF"},
		{CS, 8, "cs", 32, ""},
		{FCTRL, 0, "fctrl", 32, ""},
		{MXCSR, 0x1f80, "mxcsr", 32, ""},
		{CR0, 0x8005_0033, "cr0", 64, "PE MP ET NE WP AM PG"},
		{CR4, 1 << 5, "cr4", 64, "PAE"},
		{EFER, 0xd01, "efer", 64, "SCE LME LMA NXE"},
		{LDTR, 0, "ldtr", 32, ""},
		{registers, 0, "", 0, ""},
	} {
		if tt.r.String() != tt.name || tt.r.Bits() != tt.bits || tt.r.Flags(tt.value) != tt.flags {
			t.Errorf("%d is %v of %d bits, %q; want %s, %d, %q", int(tt.r), tt.r, tt.r.Bits(), tt.r.Flags(tt.value), tt.name, tt.bits, tt.flags)
		}
	}
}
