//go:build amd64 && (solutions || lesson)

package exercise

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmm/machine"
)

func TestDecode(t *testing.T) {
	b := make([]byte, 56)
	le := binary.LittleEndian
	le.PutUint32(b, 0x336e_c578)
	le.PutUint32(b[4:], 1)
	for i := 8; i < len(b); i++ {
		b[i] = byte(i)
	}
	want := StartInfo{0x1f1e_1d1c_1b1a_1918, 0x2726_2524_2322_2120, 0x2f2e_2d2c_2b2a_2928, 0x3332_3130}
	if got, ok := Decode(b); !ok || got != want {
		t.Errorf("Decode = %#x, %v; want %#x", got, ok, want)
	}
	if _, ok := Decode(b[:40]); ok {
		t.Error("half of one is ok")
	}
	b[4] = 0
	if _, ok := Decode(b); ok {
		t.Error("version 0 is ok")
	}
	b[4], b[0] = 1, 0
	if _, ok := Decode(b); ok {
		t.Error("a wrong number is ok")
	}
}

func TestCount(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("..")); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "kernel", "kernel.c")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), "static void print_memory(")
	loop, rest, found := strings.Cut(rest, "\n}\n")
	if !found {
		t.Fatal("kernel.c has no print_memory")
	}
	added := "\n\tconst struct memory_entry *entries = (const void *)info->memory_map;\n\tuint32_t count = info->memory_entries;\n" +
		"\t(void)entries;\n\t(void)count;\n" + Count + "}\n"
	if err := os.WriteFile(source, []byte(head+"static void print_memory("+loop+added+rest), 0o644); err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(dir, "kernel.elf")
	if out, err := exec.Command(filepath.Join(dir, "build"), kernel).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for mib, want := range map[uint64]string{16: "RAM in all: 0xf9fc00\n", 64: "RAM in all: 0x3f9fc00\n"} {
		var console bytes.Buffer
		m, err := machine.New(machine.Config{Kernel: kernel, Memory: mib << 20, CPUs: 1, Console: &console})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err = m.Run(ctx)
		cancel()
		m.Close()
		if err != nil || !strings.Contains(console.String(), want) {
			t.Errorf("with %d MiB the kernel says, %v:\n%s\nwant %q", mib, err, &console, want)
		}
	}
}
