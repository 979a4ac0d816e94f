package attack

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// evilName is a name of a symbol that a terminal would obey, if it came there, and
// that would add a line to vmm's.
const evilName = "\x1b]0;title\a\x1b[2J\x9b31m\r\nvmm: all is well\n\u202e\u009b"

// escaped is how its beginning is shown.
const escaped = `\u001b]0;title\u0007`

// kernelHalf is the virtual address of the guest's memory.
const kernelHalf = 0xffff_ffff_8000_0000

// nameTables are symbol tables as Linux 6.15 has them, in which functions of a guest
// have the names that they are to have. scripts/kallsyms.c.
func nameTables(t *testing.T, guest string, names map[string]string) []byte {
	t.Helper()
	f, err := elf.Open(guest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	type symbol struct {
		offset uint32 // from kernelHalf
		name   string
	}
	var symbols []symbol
	for i := range 600 { // a kernel has many
		symbols = append(symbols, symbol{uint32(0x100000 + i), fmt.Sprintf("Tother_%d", i)})
	}
	for _, s := range all {
		if name, ok := names[s.Name]; ok {
			symbols = append(symbols, symbol{uint32(s.Value), "T" + name})
		}
	}
	slices.SortFunc(symbols, func(a, b symbol) int { return int(a.offset) - int(b.offset) })

	le := binary.LittleEndian
	var image []byte
	pad := func() { image = append(image, make([]byte, -len(image)&7)...) }
	image = le.AppendUint64(image, uint64(len(symbols)))
	var markers []uint32
	start := len(image)
	used := map[byte]bool{}
	for i, s := range symbols {
		if i%256 == 0 {
			markers = append(markers, uint32(len(image)-start))
		}
		image = binary.AppendUvarint(image, uint64(len(s.name)))
		image = append(image, s.name...) // each token is a byte
		for _, b := range []byte(s.name) {
			used[b] = true
		}
	}
	pad()
	for _, m := range markers {
		image = le.AppendUint32(image, m)
	}
	pad()
	var index []byte
	start = len(image)
	for b := range 256 {
		index = le.AppendUint16(index, uint16(len(image)-start))
		if used[byte(b)] {
			image = append(image, byte(b))
		}
		image = append(image, 0)
	}
	pad()
	image = append(image, index...)
	pad()
	for _, s := range symbols {
		image = le.AppendUint32(image, s.offset)
	}
	pad()
	image = le.AppendUint64(image, kernelHalf)
	for i := range symbols { // in the order of their names; any will do
		image = append(image, byte(i>>16), byte(i>>8), byte(i))
	}
	return append(image, make([]byte, 100)...)
}

// obeyed is what a terminal would obey of a text, or would take for a line of vmm's.
func obeyed(text string) string {
	for i, r := range text {
		_, n := utf8.DecodeRuneInString(text[i:])
		if r != '\n' && r != '\t' && (!unicode.IsPrint(r) || r == utf8.RuneError && n == 1) {
			return fmt.Sprintf("%q", text[max(0, i-20):min(len(text), i+20)])
		}
	}
	if strings.Contains("\n"+text, "\nvmm: all is well") {
		return "a line of the guest's"
	}
	return ""
}

// A guest that runs can name its functions as it likes: nothing of that is obeyed by
// a terminal, whatever shows it.
func TestNamesOfALiveGuest(t *testing.T) {
	needKVM(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	names := map[string]string{"a_function": evilName, "an_initcall": "do_" + evilName}
	for _, name := range []string{"start_kernel", "do_one_initcall", "free_initmem", "run_init_process"} {
		names[name] = name
	}
	define := fmt.Sprintf("-DTABLES=%q", at("tables"))
	if err := os.WriteFile(at("tables"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tables := nameTables(t, assemble(t, "names", define), names)
	if err := os.WriteFile(at("tables"), tables, 0o600); err != nil {
		t.Fatal(err)
	}
	guest := assemble(t, "names", define, "-s") // without symbols of the ELF file's
	boot := []string{"--kernel", guest, "--boot-protocol", "pvh", "--memory", "64M"}
	m := start(t, append([]string{"-v", "--timeline=" + at("timeline"), "--profile=" + at("profile")}, boot...)...)
	vmm := func(args ...string) string {
		out, _ := m.command(args...) // some have nothing to show, and say why
		return string(out)
	}
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(vmm("inspect", "processor", m.control), escaped); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the guest does not come to its function: %s", vmm("inspect", "processor", m.control))
		}
	}

	shown := map[string]string{
		"inspect symbols":       vmm("inspect", "symbols", m.control),
		"inspect symbols, file": vmm("inspect", "symbols", guest),
		"inspect processor":     vmm("inspect", "processor", m.control),
		"inspect page-tables":   vmm("inspect", "page-tables", m.control, "0xffffffff80101000"),
		"top":                   vmm("top", m.control, "--rounds", "2", "--every", "200ms"),
		"no such symbol":        vmm("inspect", "symbols", m.control, evilName+"x"),
		"trace":                 vmm(append([]string{"trace", "--timeout", "2s"}, boot...)...),
	}
	if err := m.signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if status := m.end(t, endTime); status != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d: %s", status, &m.stderr)
	}
	shown["boot"] = m.stdout.String() + m.stderr.String()
	shown["timeline"] = vmm("timeline", at("timeline"), "--initcalls", "-1")
	profile, err := os.ReadFile(at("profile"))
	if err != nil {
		t.Fatal(err)
	}
	shown["profile"] = string(profile)

	for what, text := range shown {
		if bad := obeyed(text); bad != "" {
			t.Errorf("%s shows %s", what, bad)
		}
	}
	for _, what := range []string{"inspect symbols", "inspect symbols, file", "inspect processor", "timeline", "profile", "trace"} {
		if !strings.Contains(shown[what], escaped) {
			t.Errorf("%s does not show the name at all: %.2000s", what, shown[what])
		}
	}
}
