package boot

import (
	"bytes"
	"debug/elf"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmm/memory"
)

// table is a relocation table with three groups.
func table(abs64, neg32, abs32 []uint32) []byte {
	var b []byte
	for _, group := range [][]uint32{abs64, neg32, abs32} {
		b = le.AppendUint32(b, 0)
		for _, v := range group {
			b = le.AppendUint32(b, v)
		}
	}
	return b
}

// low is the entry for a place at an offset from where the kernel is linked.
func low(off uint32) uint32 { return 0x8100_0000 + off }

// relocatable is a kernel of 12 MiB with a relocation table: what Linux's build
// puts into a bzImage. What the table lists is at 0, 0x100 and 0x200.
func relocatable(t testing.TB) []byte {
	text := bytes.Repeat([]byte("text"), 1024)
	le.PutUint64(text, kernelBase+16<<20+0x1234)
	le.PutUint32(text[0x100:], 0x8000)
	le.PutUint32(text[0x200:], 0x8100_0010)
	file := elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, 16<<20+0x10,
		segment{kind: elf.PT_LOAD, vaddr: kernelBase + 16<<20, paddr: 16 << 20, data: text},
		segment{kind: elf.PT_LOAD, paddr: 18 << 20, data: []byte("each processor's")}, // linked to address 0
		segment{kind: elf.PT_LOAD, vaddr: kernelBase + 20<<20, paddr: 20 << 20, data: []byte("data"), memSize: 8 << 20})
	return append(file, table([]uint32{low(0)}, []uint32{low(0x100)}, []uint32{low(0x200)})...)
}

// relocatableImage is a bzImage of it.
func relocatableImage(t testing.TB, edit func(*SetupHeader)) *Image {
	h := modernHeader()
	h.InitSize = 16 << 20
	h.XLoadFlags |= xlfAbove4G
	if edit != nil {
		edit(&h)
	}
	return parse(t, bzImage(t, h, relocatable(t)))
}

// Each of thousands of choices is a place where the kernel can be, both ends of
// the range are among them, and what the table lists has moved with it.
func TestKASLR(t *testing.T) {
	img := relocatableImage(t, nil)
	const size = 12 << 20
	random := rand.NewChaCha8([32]byte{2})
	tests := []struct {
		name   string
		ram    uint64
		initrd int
		// places counts the physical addresses there are to choose from.
		places int
	}{
		{"without room", 32 << 20, 0, 3},      // 16, 18 and 20 MiB
		{"initrd", 64 << 20, 2<<20 - 1, 18},   // up to 62 MiB
		{"above 4 GiB", 3<<30 + 24<<20, 0, 0}, // too many to meet each
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			physical, virtual := map[uint64]bool{}, map[uint64]bool{}
			p := Params{Random: random, Cmdline: "quiet"}
			if tt.initrd > 0 {
				p.Initrd = initrd(tt.initrd)
			}
			mem := newGuest(t, tt.ram)
			above := 0
			for range 2000 {
				e, err := start(img, mem, p)
				if err != nil {
					t.Fatal(err)
				}
				physical[e.Kernel.Start], virtual[e.Slide] = true, true
				if e.Kernel.Start >= memory.HoleEnd {
					above++
				}
				checkRandom(t, mem, e, size)
				if t.Failed() {
					t.Fatalf("entry %+v", e)
				}
				// Load wants memory that is zero.
				for _, r := range []memory.Range{e.Kernel, e.Initrd, {Start: pageTablesAddr, Size: pageTablesEnd - pageTablesAddr}} {
					s, err := mem.Slice(r.Start, r.Size)
					if err != nil {
						t.Fatal(err)
					}
					if err := mem.Discard(s); err != nil {
						t.Fatal(err)
					}
				}
			}
			if tt.places > 0 && len(physical) != tt.places {
				t.Errorf("%d physical addresses; want %d", len(physical), tt.places)
			}
			if tt.places == 0 && (above == 0 || above > 100) { // 7 of 1530 places
				t.Errorf("%d times above 4 GiB", above)
			}
			// (1 GiB - 16 MiB - 12 MiB) / 2 MiB + 1 = 499
			if len(virtual) < 450 || !virtual[0] || len(virtual) > 499 {
				t.Errorf("%d virtual addresses; want about 499", len(virtual))
			}
		})
	}
}

// checkRandom checks a choice against the rules of
// arch/x86/boot/compressed/kaslr.c, and the kernel in memory against it.
func checkRandom(t *testing.T, mem *memory.Guest, e Entry, size uint64) {
	t.Helper()
	const align = 2 << 20
	if e.Kernel.Start%align != 0 || e.Slide%align != 0 || e.Kernel.Start < 16<<20 || e.Kernel.Start-e.Offset != 16<<20 {
		t.Error("not aligned, or too low")
	}
	if e.Kernel.Size != size || e.Kernel.Overlaps(e.Initrd) || 16<<20+e.Slide+size > kernelImageSize {
		t.Error("too large for where it is")
	}
	image, err := mem.Slice(e.Kernel.Start, e.Kernel.Size)
	if err != nil {
		t.Fatal(err)
	}
	got := []uint64{le.Uint64(image), uint64(le.Uint32(image[0x100:])), uint64(le.Uint32(image[0x200:]))}
	want := []uint64{kernelBase + 16<<20 + 0x1234 + e.Slide, uint64(uint32(0x8000 - e.Slide)), uint64(uint32(0x8100_0010 + e.Slide))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("relocated places (-want +got):\n%s", diff)
	}
	if e.RIP != e.Kernel.Start+0x10 {
		t.Errorf("entry %#x", e.RIP)
	}
	flags := bytesAt(t, mem, e.RSI+0x211, 1)
	if flags[0]&2 == 0 {
		t.Errorf("loadflags %#x; want KASLR_FLAG", flags[0])
	}
	for at := e.Kernel.Start &^ (2<<20 - 1); at < e.Kernel.End(); at += 2 << 20 {
		if pte := walk(t, mem, e.CR3, at); pte != at|0x83 {
			t.Errorf("the kernel's page at %#x is mapped by %#x", at, pte)
		}
	}
}

// When addresses are chosen, and when they are not.
func TestKASLRChoice(t *testing.T) {
	plain := parse(t, bzImage(t, modernHeader(), testdata(t, Gzip)))
	img := relocatableImage(t, nil)
	tests := []struct {
		name    string
		img     *Image
		p       Params
		random  bool
		mistake string
	}{
		{"auto", img, Params{}, true, ""},
		{"on", img, Params{KASLR: KASLROn}, true, ""},
		{"off", img, Params{KASLR: KASLROff}, false, ""},
		{"nokaslr", img, Params{Cmdline: "quiet nokaslr"}, false, ""},
		{"a word like it", img, Params{Cmdline: "nokaslr=1 xnokaslr"}, true, ""},
		{"on and nokaslr", img, Params{KASLR: KASLROn, Cmdline: "nokaslr"}, false, "KASLR is impossible: the command line says nokaslr"},
		{"not built for it", plain, Params{}, false, ""},
		{"on, not built for it", plain, Params{KASLR: KASLROn}, false, "CONFIG_RANDOMIZE_BASE"},
		{"PVH", relocatablePVH(t), Params{Protocol: PVH}, false, ""},
		{"on, PVH", relocatablePVH(t), Params{Protocol: PVH, KASLR: KASLROn}, false, "the pvh entry has none"},
		{"no randomness", img, Params{Random: strings.NewReader("short")}, false, "no random numbers"},
		{"alignment", relocatableImage(t, func(h *SetupHeader) { h.KernelAlignment = 3 << 20 }), Params{}, false, "damaged"},
		{"no alignment", relocatableImage(t, func(h *SetupHeader) { h.KernelAlignment = 0 }), Params{}, false, "damaged"},
		{"too much alignment", relocatableImage(t, func(h *SetupHeader) { h.KernelAlignment = 1 << 31 }), Params{}, false, "damaged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.p.Random == nil {
				tt.p.Random = alike(0xff)
			}
			e, err := start(tt.img, newGuest(t, 64<<20), tt.p)
			if tt.mistake != "" {
				if err == nil || !strings.Contains(err.Error(), tt.mistake) {
					t.Errorf("Load fails with %v; want %q", err, tt.mistake)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if random := e.Offset != 0 && e.Slide != 0; random != tt.random || (e.Offset == 0) != (e.Slide == 0) {
				t.Errorf("offset %#x, slide %#x; want random addresses: %v", e.Offset, e.Slide, tt.random)
			}
		})
	}

	// A command line that says which memory there is leaves the kernel there.
	for _, words := range []string{"mem=60M", "memmap=4M$40M", "hugepagesz=1G hugepages=1"} {
		e, err := start(img, newGuest(t, 64<<20), Params{Cmdline: words, Random: alike(0xff)})
		if err != nil || e.Offset != 0 || e.Slide == 0 {
			t.Errorf("%s: offset %#x, slide %#x, %v; want only a slide", words, e.Offset, e.Slide, err)
		}
	}
	// Neither does one that has not said that it can lie above 4 GiB go there.
	low := relocatableImage(t, func(h *SetupHeader) { h.XLoadFlags &^= xlfAbove4G })
	if e, err := start(low, newGuest(t, 4<<30), Params{Random: alike(0xff)}); err != nil || e.Kernel.End() != memory.HoleStart {
		t.Errorf("kernel at %+v, %v; want it to end at the hole", e.Kernel, err)
	}
}

// relocatablePVH is a bzImage of a kernel with a PVH entry and a relocation table.
func relocatablePVH(t *testing.T) *Image {
	return parse(t, bzImage(t, modernHeader(), append(vmlinux(t), table([]uint32{low(0)}, nil, nil)...)))
}

// alike is a source of bytes that are all the same.
type alike byte

func (b alike) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

// Where a kernel just fits, but would not with its size rounded up to whole
// pages of 2 MiB, only its virtual address is chosen at random.
func TestKASLRTight(t *testing.T) {
	kernel := elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, 16<<20+0x10,
		segment{kind: elf.PT_LOAD, vaddr: kernelBase + 16<<20, paddr: 16 << 20, data: make([]byte, 4096), memSize: 4<<20 - 4096})
	img := parse(t, bzImage(t, modernHeader(), append(kernel, table([]uint32{low(0)}, nil, nil)...)))
	e, err := start(img, newGuest(t, 20<<20), Params{Initrd: initrd(4096), Random: alike(0xff)})
	if err != nil {
		t.Fatal(err)
	}
	if e.Offset != 0 || e.Slide == 0 || e.Initrd.Start != e.Kernel.End() {
		t.Errorf("entry %+v; want the kernel at 16 MiB, the initrd right above, and a slide", e)
	}
}

// Tables that are not one, or point outside the kernel.
func TestRelocationsRefused(t *testing.T) {
	tests := []struct {
		name  string
		table []byte
		want  string // "" for none
	}{
		{"Linux 6.15", table([]uint32{low(0)}, []uint32{low(0x200)}, nil)[:16], ""},
		{"empty", table(nil, nil, nil), ""},
		{"at the end", table([]uint32{low(12<<20 - 8)}, []uint32{low(12<<20 - 4)}, []uint32{low(12<<20 - 4)}), ""},
		{"no zero", le.AppendUint32(nil, low(0)), "does not begin with a zero"},
		{"odd", []byte{0, 0, 0, 0, 1}, "5 bytes are not a whole number"},
		{"one group", make([]byte, 4), "1 groups"},
		{"four groups", make([]byte, 16), "4 groups"},
		{"many groups", make([]byte, 4096), "groups"},
		{"below, 64 bits", table([]uint32{low(0) - 1}, nil, nil), "0xffffffff80ffffff, which is outside"},
		{"above, 64 bits", table([]uint32{low(12<<20 - 7)}, nil, nil), "outside the kernel"},
		{"above, 32 bits", table(nil, nil, []uint32{low(12<<20 - 3)}), "outside the kernel"},
		{"above, negative", table(nil, []uint32{low(12<<20 - 3)}, nil), "outside the kernel"},
		{"not sign-extended", table(nil, nil, []uint32{0x7fff_ffff}), "outside the kernel"},
	}
	kernel := relocatable(t)
	kernel = kernel[:len(kernel)-24]
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := modernHeader()
			h.InitSize = 16 << 20
			img := parse(t, bzImage(t, h, append(bytes.Clone(kernel), tt.table...)))
			_, err := start(img, newGuest(t, 64<<20), Params{Random: alike(0xff)})
			if tt.want == "" && err != nil {
				t.Error(err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "--kaslr=off")) {
				t.Errorf("Load fails with %v; want %q and what to do", err, tt.want)
			}
			// Without random addresses nobody looks.
			if _, err := start(img, newGuest(t, 64<<20), Params{KASLR: KASLROff}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDraw(t *testing.T) {
	for _, tt := range []struct {
		bytes   alike
		n, want uint64
	}{{0, 10, 0}, {0xff, 10, 9}, {0x80, 10, 5}, {0xff, 1, 0}} {
		if got, err := draw(tt.bytes, tt.n); got != tt.want || err != nil {
			t.Errorf("draw(%#x..., %d) = %d, %v; want %d", tt.bytes, tt.n, got, err, tt.want)
		}
	}
	broken := errors.New("broken")
	if _, err := draw(fails{broken}, 2); !errors.Is(err, broken) {
		t.Errorf("draw = %v; want %v", err, broken)
	}
}

type fails struct{ error }

func (f fails) Read([]byte) (int, error) { return 0, f.error }

func TestKASLRNames(t *testing.T) {
	for _, k := range []KASLR{KASLRAuto, KASLROn, KASLROff} {
		if got, err := ParseKASLR(k.String()); got != k || err != nil {
			t.Errorf("ParseKASLR(%v) = %v, %v", k, got, err)
		}
	}
	if _, err := ParseKASLR("maybe"); err == nil || !strings.Contains(err.Error(), "auto, on, off") {
		t.Errorf("ParseKASLR(maybe) = %v", err)
	}
}
