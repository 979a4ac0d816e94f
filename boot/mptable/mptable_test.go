package mptable

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// interrupt is an entry of type 3 or 4: where an interrupt comes from and goes to.
type interrupt struct {
	Kind, Source, To, Pin byte
}

// The table, walked as a kernel does it: entry by entry.
func TestBuild(t *testing.T) {
	for _, cpus := range []int{1, 2, 64, MaxCPUs} {
		table, err := Build(Config{CPUs: cpus, PCI: true})
		if err != nil {
			t.Fatal(err)
		}
		if string(table[:4]) != "PCMP" || sum(table) != 0 || int(binary.LittleEndian.Uint16(table[4:])) != len(table) || table[6] != 4 {
			t.Fatalf("%d CPUs: header % x of %d bytes, sum %d", cpus, table[:8], len(table), sum(table))
		}
		if got := binary.LittleEndian.Uint32(table[36:]); got != 0xfee0_0000 {
			t.Errorf("local APICs at %#x", got)
		}
		var ids []byte
		var buses []string
		var isa, local []interrupt
		ioAPIC, entries := -1, 0
		for rest := table[44:]; len(rest) > 0; entries++ {
			size := 8
			switch rest[0] {
			case 0:
				size = 20
				ids = append(ids, rest[1])
				if boot := rest[3]&2 != 0; boot != (rest[1] == 0) || rest[3]&1 == 0 {
					t.Errorf("processor %d: flags %#x", rest[1], rest[3])
				}
			case 1:
				buses = append(buses, string(rest[2:8]))
			case 2:
				ioAPIC = int(rest[1])
				if at := binary.LittleEndian.Uint32(rest[4:]); at != 0xfec0_0000 || rest[3]&1 == 0 {
					t.Errorf("I/O APIC at %#x, flags %#x", at, rest[3])
				}
			case 3:
				isa = append(isa, interrupt{rest[1], rest[5], rest[6], rest[7]})
			case 4:
				local = append(local, interrupt{rest[1], rest[5], rest[6], rest[7]})
			default:
				t.Fatalf("an entry of type %d", rest[0])
			}
			rest = rest[size:]
		}
		if n := int(binary.LittleEndian.Uint16(table[34:])); n != entries {
			t.Errorf("it says %d entries and has %d", n, entries)
		}
		if len(ids) != cpus || ids[cpus-1] != byte(cpus-1) || ioAPIC != cpus {
			t.Errorf("%d processors, the I/O APIC's ID is %d; want %d and the ID behind theirs", len(ids), ioAPIC, cpus)
		}
		if diff := cmp.Diff([]string{"ISA   ", "PCI   "}, buses); diff != "" {
			t.Error(diff)
		}
		id := byte(ioAPIC)
		want := []interrupt{{0, 0, id, 2}, {0, 1, id, 1}}
		for irq := byte(3); irq < 16; irq++ {
			want = append(want, interrupt{0, irq, id, irq})
		}
		if diff := cmp.Diff(want, isa); diff != "" {
			t.Errorf("interrupts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]interrupt{{3, 0, 0, 0}, {1, 0, 0xff, 1}}, local); diff != "" {
			t.Errorf("local interrupts (-want +got):\n%s", diff)
		}
	}
	for _, cpus := range []int{0, MaxCPUs + 1} {
		if _, err := Build(Config{CPUs: cpus}); err == nil {
			t.Errorf("a table of %d processors", cpus)
		}
	}
}

func TestPointer(t *testing.T) {
	p := Pointer(0xf1230)
	if len(p) != PointerSize || string(p[:4]) != "_MP_" || binary.LittleEndian.Uint32(p[4:]) != 0xf1230 || sum(p) != 0 || p[8] != 1 || p[9] != 4 {
		t.Errorf("% x", p)
	}
}

func sum(b []byte) (s byte) {
	for _, c := range b {
		s += c
	}
	return s
}
