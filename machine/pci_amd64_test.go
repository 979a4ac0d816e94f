package machine

import (
	"bytes"
	"encoding/binary"
	"testing"

	"vmm/boot"
	"vmm/boot/acpi"
	"vmm/kvm"
	"vmm/memory"
)

func TestHighWindow(t *testing.T) {
	const gib = 1 << 30
	for _, tt := range []struct {
		name     string
		ram      uint64
		bits     uint
		from, to uint64
	}{
		{"no RAM above 4 GiB", 512 << 20, 48, 4 * gib, 1 << 48},
		{"some, to its end", 5 * gib, 40, 6 * gib, 1 << 40},
		{"rounded up", 5*gib + 1<<21, 40, 7 * gib, 1 << 40},
		{"no room", 63 * gib, 36, 0, 0},
		{"addresses of 32 bits", gib, 32, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ram []memory.Region
			for _, r := range memory.Layout(tt.ram) {
				ram = append(ram, memory.Region{Range: r})
			}
			if w := highWindow(ram, tt.bits); w.Size != tt.to-tt.from || w.Size != 0 && w.Start != tt.from {
				t.Errorf("highWindow = %#x to %#x; want %#x to %#x", w.Start, w.End(), tt.from, tt.to)
			}
		})
	}
}

func TestAddressBits(t *testing.T) {
	for _, tt := range []struct {
		name string
		eax  uint32
		want uint
	}{
		{"the processor's", 0x3028, 40},
		{"more than nested page tables reach", 0x3934, 48},
		{"KVM's own", 0x0034_3934, 52},
		{"KVM's own, fewer", 0x002f_3934, 47},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := addressBits([]kvm.CPUIDEntry{{Function: leafAMDSize, EAX: tt.eax}}); got != tt.want {
				t.Errorf("addressBits(%#x) = %d; want %d", tt.eax, got, tt.want)
			}
		})
	}
	if got := addressBits(nil); got != 36 {
		t.Errorf("without the leaf: %d; want 36", got)
	}
}

// The tables tell of both windows, and the second begins behind RAM.
func TestACPITellsOfWindows(t *testing.T) {
	m := newMachine(t, nil, func(c *Config) { c.Memory, c.RNG = 5<<30, true })
	tables, err := acpi.Read(m.memory, boot.FirmwareAddr)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if table.Signature != "DSDT" {
			continue
		}
		// Base and limit of a memory window of 32 and 64 bits. ACPI 6.5 §6.4.3.5.
		low := binary.LittleEndian.AppendUint64(nil, 0xdfff_ffff<<32|0xd000_0000)
		high := binary.LittleEndian.AppendUint64(nil, 6<<30)
		high = binary.LittleEndian.AppendUint64(high, 1<<m.addressBits-1)
		if !bytes.Contains(table.Data, low) || !bytes.Contains(table.Data, high) {
			t.Errorf("no windows from 0xd0000000 and from 6 GiB to %d bits of address in\n% x", m.addressBits, table.Data)
		}
		return
	}
	t.Error("no DSDT")
}
