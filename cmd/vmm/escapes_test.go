package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"vmm/boot/acpi"
	"vmm/cmd/internal/cli"
	"vmm/control"
	"vmm/devices/virtio"
	"vmm/machine"
	"vmm/timeline"
	"vmm/trace"
	"vmm/untrusted"
)

// evil is what a terminal would obey, in all the ways of writing it, and a line that
// looks like one of vmm's.
const evil = "\x1b]0;owned\a\x1b[31m\u009b2J\x7f\r\nvmm: all is well\u202e"

// poison puts evil into every string of what v points to, and makes one of each list
// and map.
func poison(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.CanSet() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		poison(v.Elem())
	case reflect.String:
		v.SetString(evil)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				poison(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(evil))
			return
		}
		if v.Type().Elem() == v.Type() || v.Type().Elem() == reflect.TypeFor[area]() && v.Cap() > 0 {
			return
		}
		one := reflect.MakeSlice(v.Type(), 1, 1)
		if v.Type().Elem() != reflect.TypeFor[area]() { // which has others in it
			poison(one.Index(0))
		} else {
			one.Index(0).Set(reflect.ValueOf(area{Name: evil, Kind: evil, Contents: []area{{Name: evil}}}))
		}
		v.Set(one)
	case reflect.Array:
		for i := range v.Len() {
			poison(v.Index(i))
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		poison(key)
		poison(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	}
}

func poisoned[T any]() any {
	var v T
	poison(reflect.ValueOf(&v).Elem())
	return v
}

// evilPeer answers at a control socket, whatever it is asked, with escapes.
func evilPeer(t *testing.T, failing bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answers := map[string]any{
		inspectCounters: poisoned[counters](), inspectQueues: poisoned[[]virtio.State](), inspectMemoryMap: poisoned[memoryMap](),
		inspectACPI: poisoned[[]acpi.Found](), inspectCPUID: poisoned[places](), inspectSymbols: evilELF(t),
		inspectProcessor: poisoned[processor](), inspectDevices: poisoned[[]machine.Shown](),
		inspectPageTables: poisoned[mappings](), inspectPageTables + " one": poisoned[pageWalk](),
	}
	serve := func(c net.Conn) {
		defer c.Close()
		for d := json.NewDecoder(c); ; {
			var r control.Request
			if d.Decode(&r) != nil {
				return
			}
			what := r.What
			if r.Address != nil {
				what += " one"
			}
			result, err := json.Marshal(answers[what])
			if err != nil {
				t.Error(err)
			}
			answer := control.Response{Result: result}
			if r.Command == control.ShowAll {
				status := poisoned[control.Status]().(control.Status)
				answer = control.Response{Status: &status}
			}
			if failing {
				answer = control.Response{Error: evil}
			}
			if json.NewEncoder(c).Encode(answer) != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return path
}

// evilELF is a kernel with a symbol that no compiler makes.
func evilELF(t *testing.T) []byte {
	t.Helper()
	const header, symbol, section = 64, 24, 64
	names := "\x00" + strings.ReplaceAll(evil, "\x00", "") + "\x00_text\x00"
	symbols := make([]byte, 3*symbol)
	le := binary.LittleEndian
	for i, name := range []int{1, len(evil) + 2} {
		s := symbols[(i+1)*symbol:]
		le.PutUint32(s, uint32(name))
		s[4] = byte(elf.STB_GLOBAL)<<4 | byte(elf.STT_FUNC)
		le.PutUint16(s[6:], uint16(elf.SHN_ABS))
		le.PutUint64(s[8:], 0xffff_ffff_8100_0000+uint64(i)*16)
	}
	at := header + len(symbols) + len(names)
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: header, Shoff: uint64(at), Shentsize: section, Shnum: 3,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	sections := []elf.Section64{
		{},
		{Type: uint32(elf.SHT_SYMTAB), Off: header, Size: uint64(len(symbols)), Link: 2, Entsize: symbol},
		{Type: uint32(elf.SHT_STRTAB), Off: uint64(header + len(symbols)), Size: uint64(len(names))},
	}
	var b bytes.Buffer
	for _, part := range []any{h, symbols, []byte(names), sections} {
		if err := binary.Write(&b, le, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// run executes a command line, and returns all that it would show.
func run(t *testing.T, args ...string) (shown string, status int) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "shown")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = f, f
	status = cli.Run(newRoot(), args, func(error) string { return "" })
	os.Stdout, os.Stderr = stdout, stderr
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), status
}

// harmless checks that text has nothing that a terminal would obey, and no line of
// the other's.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		_, n := utf8.DecodeRuneInString(text[i:])
		if r == '\n' || r == '\t' || strings.HasPrefix(text[i:], "\r\n") || unicode.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			continue
		}
		t.Errorf("%s shows %q in %q", what, r, text[max(0, i-20):min(len(text), i+20)])
		return
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "vmm: all is well") {
			t.Errorf("%s shows a line of the other's: %q", what, line)
		}
	}
}

// Whatever a machine, a kernel or a file answers, no escape of theirs reaches the
// terminal.
func TestNothingObeysEscapes(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	asJSON := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	events := timeline.File{VMM: poisoned[timeline.Data]().(timeline.Data)}
	events.VMM.Version = 1
	kernel := bzImage(modern, append([]byte(evil), make([]byte, 64)...))
	binary.LittleEndian.PutUint16(kernel[0x20e:], 0x10) // the version's text
	copy(kernel[0x210:], evil)
	peer, failing := evilPeer(t, false), evilPeer(t, true)
	commands := [][]string{
		{"ctl", "status"}, {"ctl", "pause"}, {"top", "--rounds", "1", "--every", "10ms"}, {"top", "--rounds", "1", "--every", "10ms", "--json"},
		{"inspect", "acpi"}, {"inspect", "cpuid"}, {"inspect", "devices"}, {"inspect", "memory-map"}, {"inspect", "page-tables"},
		{"inspect", "page-tables", "0x1000"}, {"inspect", "processor"}, {"inspect", "queues"}, {"inspect", "symbols"}, {"inspect", "symbols", evil},
	}
	for _, words := range commands {
		for _, socket := range []string{peer, failing} {
			at := 1
			if words[0] == "inspect" {
				at = 2
			}
			line := append(append(append([]string{}, words[:at]...), socket), words[at:]...)
			shown, status := run(t, line...)
			if wrong := status != 0; wrong != (socket == failing) && words[len(words)-1] != evil || shown == "" && words[len(words)-1] != "pause" {
				t.Errorf("%q: status %d, %q", line, status, shown)
			}
			harmless(t, strings.Join(words, " "), shown)
			if words[0] == "inspect" && len(words) == 2 && words[1] != "symbols" {
				shown, _ := run(t, append(line, "--json")...)
				harmless(t, strings.Join(words, " ")+" --json", shown)
			}
		}
	}
	files := map[string][]string{
		"a kernel":            {"inspect", "kernel", file("kernel", kernel)},
		"symbols of a kernel": {"inspect", "symbols", file("vmlinux", evilELF(t))},
		"an initrd":           {"inspect", "initrd", file("initrd", evilArchive())},
		"a timeline":          {"timeline", file("timeline.json", asJSON(events)), "--initcalls", "-1"},
		"a trace":             {"trace", "show", file("trace.jsonl", append(asJSON(poisoned[trace.Event]()), '\n'))},
		"a trace as JSON":     {"trace", "show", "--trace-format", "jsonl", file("trace2.jsonl", append(asJSON(poisoned[trace.Event]()), '\n'))},
		"no trace":            {"trace", "show", file("bad.jsonl", []byte(evil+"\n"))},
		"no such file":        {"timeline", dir + "/" + evil},
		"no such flag":        {"inspect", "--" + evil},
		"no such command":     {evil},
	}
	for what, line := range files {
		shown, _ := run(t, line...)
		if shown == "" {
			t.Errorf("%s: nothing is shown", what)
		}
		harmless(t, what, shown)
	}
	var b bytes.Buffer
	crash := machine.Crash{Reason: evil}
	newReport(machine.Outcome{Kind: machine.Crashed, Crash: &crash}, nil, nil, false).print(untrusted.Writer(&b), false)
	harmless(t, "the report of a crash", b.String())
	b.Reset()
	newReport(machine.Outcome{}, errors.New("it failed: "+evil), nil, false).print(untrusted.Writer(&b), false)
	harmless(t, "the report of a failure", b.String())
}

// evilArchive is a cpio archive with a name that is none.
func evilArchive() []byte {
	var b bytes.Buffer
	for _, name := range []string{evil, "TRAILER!!!"} {
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00", 1, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(name)+1, 0, name)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	return b.Bytes()
}

// A peer cannot take this program's memory: an answer has an end.
func TestEndlessAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, `{"result":"`)
				for chunk := strings.Repeat("x", 1<<20); ; {
					if _, err := io.WriteString(c, chunk); err != nil {
						return
					}
				}
			}()
		}
	}()
	if shown, status := run(t, "inspect", "memory-map", path); status == 0 {
		t.Errorf("status 0, %.200q", shown)
	}
}

// Nor can it with an answer that has an end, of which much would be made; nor fill the
// terminal with a message.
func TestLargeAnswer(t *testing.T) {
	var statistics strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&statistics, `,"s%d":1`, i)
	}
	for name, answer := range map[string]string{
		"statistics":    `{"status":{"balloon":{"guest":{"s":1` + statistics.String() + `}}}}`,
		"pieces":        `{"result":[` + strings.Repeat("{},", 500_000) + `{}]}`,
		"a message":     `{"error":"` + strings.Repeat("x", 1<<20) + `"}`,
		"another thing": `{"status":[1,2]}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "socket")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(c, answer+"\n")
					_ = c.Close()
				}
			}()
			command := []string{"ctl", path, "status"}
			if name == "pieces" {
				command = []string{"inspect", "memory-map", path}
			}
			if shown, status := run(t, command...); status != cli.Failed || len(shown) > 10_000 {
				t.Errorf("status %d, %d bytes: %.200q", status, len(shown), shown)
			}
		})
	}
}
