package acpi

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// at is tables at an address.
type at struct {
	base uint64
	b    []byte
}

func (a at) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(a.b).ReadAt(p, off-int64(a.base))
}

// What was built is found.
func TestRead(t *testing.T) {
	const base = 0xe0000
	image, err := Build(base, Config{CPUs: 2, ECAM: 0xe000_0000})
	if err != nil {
		t.Fatal(err)
	}
	found, err := Read(at{base, image}, base)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Signature)
		if !f.Valid || f.OEM != "VMM" {
			t.Errorf("%s: valid %v, OEM %q", f.Signature, f.Valid, f.OEM)
		}
	}
	if diff := cmp.Diff([]string{"RSD PTR", "XSDT", "FACP", "DSDT", "APIC", "MCFG"}, names); diff != "" {
		t.Error(diff)
	}
	again, err := Parse(append(bytes.Clone(found[2].Data), found[3].Data...))
	if err != nil || len(again) != 2 || again[1].Signature != "DSDT" {
		t.Errorf("Parse = %+v, %v", again, err)
	}
	if _, err := Parse(found[3].Data[:50]); err == nil {
		t.Error("a table that is cut off is parsed")
	}
}

// Whatever the guest has made of the tables.
func FuzzRead(f *testing.F) {
	image, err := Build(0, Config{CPUs: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(image)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Read(bytes.NewReader(b), 0)
		_, _ = Parse(b)
	})
}
