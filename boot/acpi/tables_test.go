package acpi

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const base = 0xe0000

func config(cpus int) Config {
	return Config{
		CPUs: cpus, SleepControl: 0x600, SleepStatus: 0x601, Reset: 0x602, ResetValue: 1, SleepTypeS5: 5,
		CenturyRegister: 0x32, ECAM: 0xe000_0000,
		Devices: []Term{
			Serial(0x3f8, 4), RTC(0x70), Pvpanic(0x505), Keyboard(0x60, 0x64, 1), PowerButton(3),
			Dev("TEST", Name("_HID", Str("LNRO0005")), Name("_UID", Int(1<<40)),
				Name("_CRS", Resources(Memory(0xd000_0000, 0x1000), IRQ(5, false)))),
			VirtioMMIO(17, 0xc000_1000, 0x1000, 16),
			PCI(0xcf8, [2]uint32{0xe000_0000, 1 << 20},
				Window(0xd000_0000, 0x1000_0000), HighWindow(0x1_4000_0000, 0xfffe_c000_0000)),
		},
	}
}

// tables follows the pointers from the root, checks every checksum, and returns
// the tables by signature.
func tables(t *testing.T, image []byte) map[string][]byte {
	t.Helper()
	sum := func(what string, b []byte) {
		t.Helper()
		if checksum(b) != 0 {
			t.Errorf("%s: the bytes do not sum up to zero", what)
		}
	}
	at := func(addr uint64) []byte {
		t.Helper()
		if addr < base || addr+headerSize > base+uint64(len(image)) || addr%16 != 0 {
			t.Fatalf("a table at %#x", addr)
		}
		table := image[addr-base:]
		size := le.Uint32(table[4:])
		if size < headerSize || int(size) > len(table) {
			t.Fatalf("a table of %d bytes", size)
		}
		table = table[:size]
		sum(string(table[:4]), table)
		return table
	}
	if !bytes.HasPrefix(image, []byte("RSD PTR ")) {
		t.Fatal("no root pointer at the start")
	}
	sum("RSDP of ACPI 1", image[:20])
	sum("RSDP", image[:rsdpSize])
	found := make(map[string][]byte)
	xsdt := at(le.Uint64(image[24:]))
	for p := xsdt[headerSize:]; len(p) > 0; p = p[8:] {
		table := at(le.Uint64(p))
		found[string(table[:4])] = table
	}
	fadt := found["FACP"]
	if fadt == nil {
		t.Fatal("no FADT")
	}
	dsdt := at(le.Uint64(fadt[140:]))
	if low := uint64(le.Uint32(fadt[40:])); low != le.Uint64(fadt[140:]) {
		t.Errorf("the FADT's two pointers to the DSDT differ: %#x", low)
	}
	found["DSDT"] = dsdt
	return found
}

func TestBuild(t *testing.T) {
	for _, cpus := range []int{1, 2, 64, 254} {
		t.Run(fmt.Sprint(cpus), func(t *testing.T) {
			c := config(cpus)
			image, err := Build(base, c)
			if err != nil {
				t.Fatal(err)
			}
			found := tables(t, image)
			var ids []byte
			for m := found["APIC"][44:]; len(m) > 0; m = m[m[1]:] {
				if m[0] == madtLocalAPIC {
					ids = append(ids, m[3])
				}
			}
			if len(ids) != cpus || ids[cpus-1] != byte(cpus-1) {
				t.Errorf("APIC IDs %v; want %d", ids, cpus)
			}
			if want := []byte{madtOverride, 10, 0, 0, 2, 0, 0, 0, 0, 0}; !bytes.Contains(found["APIC"], want) {
				t.Errorf("the timer is not said to be at the I/O APIC's input 2: % x", found["APIC"])
			}
			if len(found["FACP"]) != fadtSize {
				t.Errorf("a FADT of %d bytes; revision 6 has %d", len(found["FACP"]), fadtSize)
			}
		})
	}
	for _, cpus := range []int{0, -1, 255} {
		if _, err := Build(base, Config{CPUs: cpus}); err == nil {
			t.Errorf("tables for %d processors", cpus)
		}
	}
}

// ACPICA's compiler, by which Linux's own interpreter is made, takes each table
// apart and compiles it again without a complaint.
func TestTablesWithIASL(t *testing.T) {
	if _, err := exec.LookPath("iasl"); err != nil {
		if os.Getenv("VMM_REQUIRE_KVM") != "" { // in CI nothing may be missing
			t.Fatal(err)
		}
		t.Skip("iasl is not installed: apt-get install acpica-tools")
	}
	image, err := Build(base, config(64))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	iasl := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("iasl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("iasl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for signature, table := range tables(t, image) {
		name := filepath.Join(dir, signature)
		if err := os.WriteFile(name+".aml", table, 0o644); err != nil {
			t.Fatal(err)
		}
		if out := iasl("-d", signature+".aml"); strings.Contains(out, "Warning") {
			t.Errorf("iasl -d %s:\n%s", signature, out)
		}
		out := iasl("-p", "new-"+signature, signature+".dsl")
		if !strings.Contains(out, "0 Errors") && !strings.Contains(out, "Table Input") || strings.Contains(out, "Warning  ") {
			t.Errorf("iasl %s.dsl:\n%s", signature, out)
		}
		again, err := os.ReadFile(filepath.Join(dir, "new-"+signature+".aml"))
		if err != nil {
			t.Fatal(err)
		}
		// The compiler signs what it makes: the last 8 bytes of the header,
		// and the checksum with them.
		clear(again[28:36])
		want := bytes.Clone(table)
		clear(want[28:36])
		again[9], want[9] = 0, 0
		if !bytes.Equal(again, want) {
			t.Errorf("%s compiles to something else:\n% x\nwant\n% x", signature, again, want)
		}
	}
}

func TestPkgLength(t *testing.T) {
	for _, n := range []int{0, 62, 63, 4093, 4094, 1 << 20} {
		body := make(Term, n)
		got := withLength(body)
		lead, extra := got[0], int(got[0]>>6)
		size := int(lead & 0x3f)
		if extra > 0 {
			size = int(lead & 0xf)
			for i := range extra {
				size |= int(got[1+i]) << (4 + 8*i)
			}
		}
		if size != len(got) || len(got) != n+1+extra {
			t.Errorf("body of %d: length %d in %d bytes", n, size, len(got))
		}
	}
}

func TestWrongNames(t *testing.T) {
	for what, f := range map[string]func(){
		"short name":    func() { Name("ABC", Int(0)) },
		"no EISA id":    func() { EISAID("PNPXYZW") },
		"short EISA id": func() { EISAID("PNP05") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is accepted", what)
				}
			}()
			f()
		}()
	}
}
