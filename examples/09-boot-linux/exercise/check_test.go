//go:build amd64 && (solutions || lesson)

package exercise

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMemoryMap(t *testing.T) {
	for _, tt := range []struct {
		size uint64
		want []Range
	}{
		{2 << 20, []Range{{0, 0x9_fc00}, {1 << 20, 1 << 20}}},
		{3 << 30, []Range{{0, 0x9_fc00}, {1 << 20, 3<<30 - 1<<20}}},
		{8 << 30, []Range{{0, 0x9_fc00}, {1 << 20, 3<<30 - 1<<20}, {4 << 30, 5 << 30}}},
	} {
		if diff := cmp.Diff(tt.want, MemoryMap(tt.size)); diff != "" {
			t.Errorf("%d MiB (-want +got):\n%s", tt.size>>20, diff)
		}
	}
}

func TestInitrdAddr(t *testing.T) {
	for _, tt := range []struct {
		ram, kernelEnd, size, last uint64
		addr                       uint64
		ok                         bool
	}{
		{512 << 20, 64 << 20, 10 << 20, 0x7fff_ffff, 502 << 20, true},
		{512 << 20, 64 << 20, 10<<20 + 1, 0x7fff_ffff, 502<<20 - 4096, true},
		{8 << 30, 64 << 20, 1 << 20, 0x37ff_ffff, 0x37f0_0000, true},
		{8 << 30, 64 << 20, 1 << 20, 1<<64 - 2, 3<<30 - 1<<20, true},
		{128 << 20, 120 << 20, 9 << 20, 0x7fff_ffff, 0, false},
		{128 << 20, 120 << 20, 1 << 40, 0x7fff_ffff, 0, false},
	} {
		addr, ok := InitrdAddr(tt.ram, tt.kernelEnd, tt.size, tt.last)
		if ok != tt.ok || ok && addr != tt.addr {
			t.Errorf("InitrdAddr(%#x, %#x, %#x, %#x) = %#x, %v; want %#x, %v", tt.ram, tt.kernelEnd, tt.size, tt.last, addr, ok, tt.addr, tt.ok)
		}
	}
}
