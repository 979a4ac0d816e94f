package boot

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInspectText(t *testing.T) {
	h := modernHeader()
	h.XLoadFlags = 0x8003
	h.InitSize = 4<<20 + 1
	file := bzImage(t, h, testdata(t, XZ))
	var got strings.Builder
	if _, err := parse(t, file).Inspect().WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"format           bzImage\n",
		"kernel           6.15.3 (someone@example) #1\n",
		"boot protocol    2.15\n",
		"vmm boots it by  direct at 0x1000000, linux64 at 0x1000200, linux32 at 0x1000000, pvh at 0x1000020\n",
		"payload          xz, 252 bytes at 0x800, 307396 unpacked\n",
		"  0x1f1  setup_sects            0x01                512-byte sectors of real-mode code; the protected-mode code begins at byte 0x400\n",
		"  0x211  loadflags              0x01                LOADED_HIGH\n",
		"  0x236  xloadflags             0x8003              KERNEL_64 CAN_BE_LOADED_ABOVE_4G bit 15\n",
		"  0x258  pref_address           0x0000000001000000  preferred load address\n",
		"  0x260  init_size              0x00400001          memory needed from there on to start: 5 MiB\n",
		"ELF64 X86_64 EXEC, entry 0xffffffff81000000\n",
		"  entries: pvh at 0x1000020, linux64 at 0x1000000\n",
		"  LOAD     R-X    0x1000000  0xffffffff81000000  0xb0     307200   307200\n",
		"  Xen   18    PHYS32_ENTRY  0x1000020\n",
	} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("no line\n%s", want)
		}
	}
	if t.Failed() {
		t.Log(got.String())
	}
}

// What vmm makes of a file that is compressed as a whole, or is hardly a kernel.
func TestInspectHow(t *testing.T) {
	for file, want := range map[string]string{
		string(gzipped(t, vmlinux(t))): "format           ELF, compressed with gzip\nvmm boots it by  pvh at 0x1000020, linux64 at 0x1000010\n",
		string(elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, 4<<20, segment{kind: elf.PT_LOAD, vaddr: 4 << 20, paddr: 4 << 20, data: make([]byte, 64)})): "vmm could boot it by  linux64 at 0x400000, with --boot-protocol",
	} {
		var got strings.Builder
		if _, err := parse(t, []byte(file)).Inspect().WriteTo(&got); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(got.String(), want) {
			t.Errorf("no line\n%s\nin\n%s", want, &got)
		}
	}
}

// Every field has an explanation.
func TestHeaderMeanings(t *testing.T) {
	var b bytes.Buffer
	h := modernHeader()
	h.writeFields(&b)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 39 {
		t.Errorf("%d fields; want 39", len(lines))
	}
	for _, line := range lines {
		if name := strings.Fields(line)[1]; name != "xloadflags" && h.meaning(name) == "" {
			t.Errorf("%s is not explained", name)
		}
	}
}

func TestInspectJSON(t *testing.T) {
	marshal := func(img *Image) map[string]any {
		data, err := json.Marshal(img.Inspect())
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	file := vmlinux(t)
	got := marshal(parse(t, file))
	entries := []any{
		map[string]any{"protocol": "pvh", "address": float64(0x1000020)},
		map[string]any{"protocol": "linux64", "address": float64(0x1000010)},
	}
	want := map[string]any{
		"file": "vmlinuz", "size": float64(len(file)), "format": "ELF", "entries": entries, "relocations": 0.,
		"elf": map[string]any{
			"class": "64", "machine": "X86_64", "type": "EXEC", "entry": float64(kernelBase + 16<<20 + 0x10), "entries": entries,
			"segments": []any{
				map[string]any{"type": "LOAD", "flags": "R-X", "offset": 232., "vaddr": float64(kernelBase + 16<<20),
					"paddr": float64(16 << 20), "filesz": 4096., "memsz": 4096.},
				map[string]any{"type": "LOAD", "flags": "R-X", "offset": 4328., "vaddr": float64(kernelBase + 18<<20),
					"paddr": float64(18 << 20), "filesz": 4., "memsz": float64(1 << 20)},
				map[string]any{"type": "NOTE", "flags": "R-X", "offset": 4332., "vaddr": 0., "paddr": 0., "filesz": 20., "memsz": 20.},
			},
			"notes": []any{map[string]any{"owner": "Xen", "type": 18., "name": "PHYS32_ENTRY", "desc": "20000001", "value": float64(0x1000020)}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON of an ELF kernel (-want +got):\n%s", diff)
	}

	got = marshal(parse(t, bzImage(t, modernHeader(), []byte("\x28\xb5\x2f\xfd not zstd\x00\x01\x00\x00"))))
	if problem, _ := got["problem"].(string); !strings.Contains(problem, "zstd payload") || got["elf"] != nil {
		t.Errorf("problem %q, ELF %v; want a problem with the zstd payload and no ELF", problem, got["elf"])
	}
	if name := got["payload"].(map[string]any)["compression"]; name != "zstd" {
		t.Errorf("compression %v; want zstd", name)
	}
}

// What a file says of itself does not reach the terminal as it is.
func TestInspectQuotes(t *testing.T) {
	file := bytes.Replace(bzImage(t, modernHeader(), nil), []byte("6.15.3"), []byte("\x1b[2J;"), 1)
	var got strings.Builder
	if _, err := parse(t, file).Inspect().WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got.String(), "\x1b") || !strings.Contains(got.String(), `"\x1b[2J;`) {
		t.Errorf("output is\n%q", got.String())
	}
}

// An image without a compressed kernel, as memtest86+ is, is not called faulty, and
// no protocol is named that it does not have.
func TestNoPayload(t *testing.T) {
	for _, tt := range []struct {
		flags      uint16
		want, auto Protocol
	}{
		{0, Linux32, Linux32},
		{xlfKernel64, Linux64, Linux64},
	} {
		img := &Image{Name: "memtest", Format: BzImage, Header: &SetupHeader{Version: 0x20c, XLoadFlags: tt.flags, LoadFlags: 1}}
		_, err := img.Payload()
		if err == nil || !strings.HasSuffix(err.Error(), "auto enters it, as "+tt.want.String()+" does") {
			t.Errorf("flags %#x: %v; want a word on %v", tt.flags, err, tt.want)
		}
		if p, err := img.Choose(Auto); err != nil || p != tt.auto {
			t.Errorf("flags %#x: auto means %v, %v", tt.flags, p, err)
		}
	}
}
