package boot

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// newc makes a cpio archive. The contents of a file are its Link, or Size
// times the letter x.
func newc(files ...File) []byte {
	var b bytes.Buffer
	pad := func() { b.Write(make([]byte, -b.Len()&3)) }
	for _, f := range append(files, File{Name: cpioTrailer}) {
		data := f.Link
		if data == "" {
			data = strings.Repeat("x", int(f.Size))
		}
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
			1, f.Mode, f.UID, f.GID, 1, 0, len(data), 8, 1, f.Major, f.Minor, len(f.Name)+1, 0, f.Name)
		pad()
		b.WriteString(data)
		pad()
	}
	return b.Bytes()
}

// pack compresses data.
func pack(t testing.TB, c Compression, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch c {
	case Gzip:
		w = gzip.NewWriter(&b)
	case LZMA:
		w, err = lzma.NewWriter(&b)
	case LZ4:
		z := lz4.NewWriter(&b)
		err = z.Apply(lz4.LegacyOption(true))
		w = z
	case Zstd:
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestListInitrd(t *testing.T) {
	microcode := []File{
		{Name: "kernel", Mode: 0o40755},
		{Name: "kernel/x86/microcode/GenuineIntel.bin", Mode: 0o100644, Size: 4097},
	}
	root := []File{
		{Name: "dev", Mode: 0o40755},
		{Name: "dev/console", Mode: 0o20600, Major: 5, Minor: 1},
		{Name: "init", Mode: 0o100755, Size: 3, UID: 1, GID: 2},
		{Name: "bin", Mode: 0o120777, Size: 7, Link: "usr/bin"},
	}
	more := []File{{Name: "etc/motd", Mode: 0o100644, Size: 10}}
	a, b, c := newc(microcode...), newc(root...), newc(more...)
	zeros := make([]byte, 508)
	at := int64(len(a) + len(zeros))
	tests := []struct {
		name string
		file []byte
		want []Archive
	}{
		{"one", b, []Archive{{Uncompressed, 0, root}}},
		{"without the last padding", b[:len(b)-3], []Archive{{Uncompressed, 0, root}}},
		{"empty archive", newc(), []Archive{{Uncompressed, 0, nil}}},
		{"zeros before and after", join(zeros, b, zeros, []byte{0}), []Archive{{Uncompressed, 508, root}}},
		{"several", join(a, zeros, b, c), []Archive{{Uncompressed, 0, microcode}, {Uncompressed, at, root}, {Uncompressed, at + int64(len(b)), more}}},
		{"gzip", pack(t, Gzip, b), []Archive{{Gzip, 0, root}}},
		{"lzma", pack(t, LZMA, b), []Archive{{LZMA, 0, root}}},
		{"lz4", pack(t, LZ4, b), []Archive{{LZ4, 0, root}}},
		{"zstd", pack(t, Zstd, b), []Archive{{Zstd, 0, root}}},
		{"microcode, then zstd", join(a, zeros, pack(t, Zstd, b)), []Archive{{Uncompressed, 0, microcode}, {Zstd, at, root}}},
		{"several in gzip", pack(t, Gzip, join(b, zeros, c)), []Archive{{Gzip, 0, root}, {Gzip, 0, more}}},
		{"several gzip", join(pack(t, Gzip, b), pack(t, Gzip, c)), []Archive{{Gzip, 0, root}, {Gzip, 0, more}}},
		{"gzip, padded", join(pack(t, Gzip, b), zeros), []Archive{{Gzip, 0, root}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ListInitrd("initrd.img", bytes.NewReader(tt.file), int64(len(tt.file)))
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("archives (-want +got):\n%s", diff)
			}
		})
	}
}

// What is wrong is said, after what could be read.
func TestListInitrdRefuses(t *testing.T) {
	file := File{Name: "init", Mode: 0o100755, Size: 100}
	b := newc(file)
	edit := func(at int, s string) []byte {
		b := bytes.Clone(b)
		copy(b[at:], s)
		return b
	}
	packed := pack(t, Gzip, b)
	const nameSize = 6 + 11*8
	tests := []struct {
		name  string
		file  []byte
		files int // read before
		want  string
	}{
		{"empty", nil, 0, "the file is empty"},
		{"zeros", make([]byte, 9000), 0, "nothing but zeros"},
		{"text", []byte("hello"), 0, "what is at byte 0 is neither a cpio archive nor compressed"},
		{"text behind", join(b, []byte("hello")), 1, "what is at byte 340 is neither"},
		{"old cpio", []byte("070707" + strings.Repeat("0", 200)), 0, "cpio -H newc"},
		{"misaligned", join([]byte{0, 0}, b), 0, "at byte 2 is not at a multiple of 4"},
		{"no trailer", b[:224], 1, "cpio archive at byte 0: truncated"},
		{"cut in a header", b[:50], 0, "truncated"},
		{"cut in a name", b[:112], 0, "truncated"},
		{"cut in a file", b[:150], 0, "truncated"},
		{"not a number", edit(6, "0000000g"), 0, "cpio header"},
		{"no name", edit(nameSize, "00000000"), 0, "a name of 0 bytes"},
		{"long name", edit(nameSize, "00001001"), 0, "a name of 4097 bytes"},
		{"name longer than it is", edit(nameSize, "00000009"), 1, "where a cpio header should be"},
		{"cut gzip", packed[:len(packed)/2], 0, "gzip data at byte 0: truncated"},
		{"not what it begins like", []byte("\xfd7zXZ\x00" + strings.Repeat("junk", 9)), 0, "xz data at byte 0: "},
		{"not cpio", pack(t, Gzip, []byte("hello, world"+strings.Repeat(".", 200))), 0, `gzip data at byte 0: "hello,"`},
		{"nothing compressed", pack(t, Gzip, nil), 0, "gzip data at byte 0: unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ListInitrd("initrd.img", bytes.NewReader(tt.file), int64(len(tt.file)))
			if err == nil || !strings.HasPrefix(err.Error(), "initrd initrd.img: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ListInitrd fails with %v; want %q", err, tt.want)
			}
			n := 0
			for _, a := range got {
				n += len(a.Files)
			}
			if n != tt.files {
				t.Errorf("%d files were read; want %d", n, tt.files)
			}
		})
	}
}

func TestWriteInitrd(t *testing.T) {
	archives := []Archive{{Compression: Zstd, Offset: 512, Files: []File{
		{Name: "dev/console", Mode: 0o20600, Major: 5, Minor: 1},
		{Name: "dev/vda", Mode: 0o60640, GID: 6, Major: 254},
		{Name: "tmp", Mode: 0o41777},
		{Name: "bin", Mode: 0o120777, Size: 7, Link: "usr/bin"},
		{Name: "su", Mode: 0o104755, Size: 1 << 20},
		{Name: "odd", Mode: 0o107644, UID: 65534},
		{Name: "pipe", Mode: 0o10600},
		{Name: "socket", Mode: 0o140600},
		{Name: "\x1b[2J", Mode: 0},
	}}}
	var got strings.Builder
	if err := WriteInitrd(&got, archives); err != nil {
		t.Fatal(err)
	}
	want := `# cpio archive at byte 512, compression zstd, 9 files
crw-------     0     0       5, 1 dev/console
brw-r-----     0     6     254, 0 dev/vda
drwxrwxrwt     0     0          0 tmp
lrwxrwxrwx     0     0          7 bin -> usr/bin
-rwsr-xr-x     0     0    1048576 su
-rwSr-Sr-T 65534     0          0 odd
prw-------     0     0          0 pipe
srw-------     0     0          0 socket
?---------     0     0          0 "\x1b[2J"
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
}

func FuzzInitrd(f *testing.F) {
	b := newc(File{Name: "init", Mode: 0o100755, Size: 100}, File{Name: "bin", Mode: 0o120777, Link: "usr/bin"})
	f.Add(b)
	f.Add(join(b, make([]byte, 4), b))
	for _, c := range []Compression{Gzip, LZMA, LZ4, Zstd} {
		f.Add(join(b, pack(f, c, b)))
	}
	for c := range compressors {
		data, err := os.ReadFile(filepath.Join("testdata", "vmlinux."+c.String()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		archives, err := ListInitrd("initrd", bytes.NewReader(data), int64(len(data)))
		if err == nil && len(archives) == 0 {
			t.Error("neither an archive nor an error")
		}
		for _, a := range archives {
			if a.Offset < 0 || a.Offset >= int64(len(data)) {
				t.Errorf("an archive at %d of %d bytes", a.Offset, len(data))
			}
		}
		if err := WriteInitrd(io.Discard, archives); err != nil {
			t.Error(err)
		}
	})
}
