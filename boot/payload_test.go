package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"flag"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "make testdata/vmlinux.* anew with the programs that Linux's build uses")

// sample is the kernel that testdata/ holds in every compression: larger than
// a block of lzop, and with calls, which the x86 filter of xz rewrites.
func sample(t testing.TB) []byte {
	text := bytes.Repeat([]byte{0x90}, 300<<10)
	for at := 0; at < 4096; at += 16 {
		text[at] = 0xe8 // call the end of text
		binary.LittleEndian.PutUint32(text[at+1:], uint32(len(text)-(at+5)))
	}
	return elfFile(t, elf.ELFCLASS64, elf.EM_X86_64, kernelBase+16<<20,
		segment{kind: elf.PT_LOAD, vaddr: kernelBase + 16<<20, paddr: 16 << 20, data: text},
		pvhNote(16<<20+0x20))
}

// compressors are how Linux's build compresses a kernel: scripts/Makefile.lib
// and scripts/xz_wrap.sh. All but gzip append the size.
var compressors = map[Compression][]string{
	Gzip:  {"gzip", "-n", "-9"},
	Bzip2: {"bzip2", "-9"},
	LZMA:  {"lzma", "-9"},
	XZ:    {"xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB"},
	LZO:   {"lzop", "-9"},
	LZ4:   {"lz4", "-l", "-9"},
	Zstd:  {"zstd", "-22", "--ultra"},
}

// testdata is the sample, compressed, with its size appended as Linux does.
func testdata(t testing.TB, c Compression) []byte {
	t.Helper()
	path := filepath.Join("testdata", "vmlinux."+c.String())
	if *update {
		raw := sample(t)
		cmd := exec.Command(compressors[c][0], compressors[c][1:]...)
		cmd.Stdin = bytes.NewReader(raw)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		if c != Gzip {
			packed = binary.LittleEndian.AppendUint32(packed, uint32(len(raw)))
		}
		if err := os.WriteFile(path, packed, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestVmlinux(t *testing.T) {
	raw := sample(t)
	payloads := map[Compression][]byte{Uncompressed: raw}
	for c := range compressors {
		payloads[c] = testdata(t, c)
	}
	for c, data := range payloads {
		t.Run(c.String(), func(t *testing.T) {
			img := parse(t, bzImage(t, modernHeader(), data))
			got, err := img.Payload()
			if err != nil {
				t.Fatal(err)
			}
			want := Payload{Compression: c, Offset: 1024 + codeSize, Size: int64(len(data)), Unpacked: uint32(len(raw))}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("payload (-want +got):\n%s", diff)
			}
			unpacked, err := img.Vmlinux()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(unpacked, raw) {
				t.Errorf("%d bytes that are not the kernel", len(unpacked))
			}

			if c == Uncompressed {
				return
			}
			// Cut in the middle, and with a trailer that lies either way.
			cut := append(bytes.Clone(data[:len(data)/2]), data[len(data)-4:]...)
			less, more := bytes.Clone(data), bytes.Clone(data)
			binary.LittleEndian.PutUint32(less[len(less)-4:], uint32(len(raw)-1))
			binary.LittleEndian.PutUint32(more[len(more)-4:], uint32(len(raw)+1))
			for name, bad := range map[string][]byte{"cut": cut, "less": less, "more": more} {
				_, err := parse(t, bzImage(t, modernHeader(), bad)).Vmlinux()
				if err == nil || !strings.HasPrefix(err.Error(), "kernel vmlinuz: "+c.String()+" payload: ") {
					t.Errorf("%s: Vmlinux = %v; want an error about the payload", name, err)
				}
			}
		})
	}
}

// older makes an image one of a Linux that has a checksum at its end, and signs it,
// which the checksum does not know of.
func older(t *testing.T, file []byte, signed bool) []byte {
	t.Helper()
	file = bytes.Replace(file, []byte("6.15.3"), []byte("6.14.9"), 1)
	const pe, optional = 0x40, 0x40 + 24
	binary.LittleEndian.PutUint32(file[0x3c:], pe)
	copy(file[pe:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(file[optional:], 0x20b)
	clear(file[optional+64:][:4])
	clear(file[optional+144:][:8])
	size := (len(file) + 4 + 15) &^ 15
	binary.LittleEndian.PutUint32(file[headerOffset+3:], uint32(size-1024)/16)
	file = append(file, make([]byte, size-4-len(file))...)
	file = binary.LittleEndian.AppendUint32(file, ^crc32.ChecksumIEEE(file))
	if signed {
		binary.LittleEndian.PutUint32(file[optional+64:], 0x12345678)
		binary.LittleEndian.PutUint32(file[optional+144:], uint32(size))
		binary.LittleEndian.PutUint32(file[optional+148:], 16)
		file = append(file, "some certificate"...)
	}
	return file
}

// A payload with a bit wrong anywhere is refused, where its format or the image has
// a checksum; and where neither has, nothing worse happens than a kernel with wrong
// bytes in it.
func TestDamagedPayload(t *testing.T) {
	raw := sample(t)
	payloads := map[Compression][]byte{Uncompressed: raw}
	for c := range compressors {
		payloads[c] = testdata(t, c)
	}
	for c, data := range payloads {
		t.Run(c.String(), func(t *testing.T) {
			newer := bzImage(t, modernHeader(), data)
			for kind, file := range map[string][]byte{"newer": newer, "older": older(t, bytes.Clone(newer), false), "signed": older(t, bytes.Clone(newer), true)} {
				if got, err := parse(t, file).Vmlinux(); err != nil || !bytes.Equal(got, raw) {
					t.Fatalf("%s: %d bytes, %v; want the kernel", kind, len(got), err)
				}
				for at := 0; at < len(data); at += 1 + len(data)/100 {
					bad := bytes.Clone(file)
					bad[1024+codeSize+at] ^= 0x10
					got, err := parse(t, bad).Vmlinux()
					if err == nil && !bytes.Equal(got, raw) && (kind != "newer" || c.checked() || len(got) != len(raw)) {
						t.Errorf("%s, with byte %d wrong: %d bytes that are not the kernel", kind, at, len(got))
					}
				}
			}
		})
	}
}

func TestVmlinuxRefuses(t *testing.T) {
	edit := func(f func(*SetupHeader)) *Image {
		h := modernHeader()
		h.SysSize = 1
		f(&h)
		return parse(t, bzImage(t, h, testdata(t, Gzip)))
	}
	bomb := bytes.Clone(testdata(t, Gzip))
	binary.LittleEndian.PutUint32(bomb[len(bomb)-4:], 1<<30+1)
	tests := []struct {
		name string
		img  *Image
		want string
	}{
		{"ELF", parse(t, vmlinux(t)), "no compressed kernel"},
		{"none", parse(t, bzImage(t, modernHeader(), nil)), "no compressed kernel"},
		{"protocol 2.07", edit(func(h *SetupHeader) { h.Version = 0x207 }), "no compressed kernel"},
		{"past the end", edit(func(h *SetupHeader) { h.PayloadLength = 1 << 31 }), "past the end"},
		{"begins past the end", edit(func(h *SetupHeader) { h.PayloadOffset = 1 << 31 }), "past the end"},
		{"tiny", edit(func(h *SetupHeader) { h.PayloadLength = 4 }), "4 bytes"},
		{"not ELF", parse(t, bzImage(t, modernHeader(), []byte("something else"))), "neither an ELF file nor compressed"},
		{"too large", parse(t, bzImage(t, modernHeader(), bomb)), "there is room for 4194304"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.img.Vmlinux(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Vmlinux = %v; want an error with %q", err, tt.want)
			}
		})
	}
}

// lzop stores a block that does not get smaller, without the second pair of
// checksums; and a size that Linux would not accept is refused.
func TestLzopBlocks(t *testing.T) {
	header := []byte(lzopMagic + "\x10\x40\x20\xa0\x09\x40\x01\x09" + // versions, method, level
		"\x00\x00\x00\x03" + // flags: Adler-32 of the data and of the compressed data
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + // mode and times
		"\x01x" + "\x00\x00\x00\x00") // name, checksum
	be := binary.BigEndian
	block := func(size, packed uint32, rest string) []byte {
		return append(be.AppendUint32(be.AppendUint32(bytes.Clone(header), size), packed), rest...)
	}
	const adler = "\x06\x2c\x02\x15" // of "hello"
	tests := []struct {
		name string
		file []byte
		want string
		err  string
	}{
		{"stored", block(5, 5, adler+"hello\x00\x00\x00\x00"), "hello", ""},
		{"without the end", block(5, 5, adler+"hello"), "hello", "unexpected EOF"},
		{"wrong checksum", block(5, 5, adler+"hullo"), "", "wrong checksum"},
		{"cut", block(5, 5, "ADLRhel"), "", "unexpected EOF"},
		{"too large", block(256<<10+1, 5, "ADLRADLRhello"), "", "a block of 262145 bytes"},
		{"larger than unpacked", block(5, 6, "ADLRhello!"), "", "5 bytes, 6 packed"},
		{"damaged", block(100, 4, "ADLRADLR\xff\xff\xff\xff"), "", "lzo"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := decompressor(LZO, bytes.NewReader(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			_, err = got.ReadFrom(r)
			if got.String() != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("read %q, %v; want %q, %q", got.String(), err, tt.want, tt.err)
			}
		})
	}
}
