package kallsyms

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is written as ELF is read as the same symbols.
func TestWriteELF(t *testing.T) {
	want := []Symbol{
		{0x1f000, 'D', "per_cpu_variable"},
		{0xffff_ffff_8100_0000, 'T', "_text"},
		{0xffff_ffff_8100_1230, 'T', "start_kernel"},
		{0xffff_ffff_8200_0000, 'D', "init_task"},
	}
	table, err := fromELF(elfFile(want))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := table.WriteELF(&b); err != nil {
		t.Fatal(err)
	}
	again, err := fromELF(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	// Of types, ELF knows fewer.
	sameType := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Type" }, cmp.Ignore())
	if diff := cmp.Diff(slices.Collect(table.All()), slices.Collect(again.All()), sameType); diff != "" {
		t.Error(diff)
	}
}
