package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

func file(t testing.TB, contents []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, contents, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustOpen(t testing.TB, c Config) Image {
	t.Helper()
	image, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	return image
}

func vector(pieces ...[]byte) *memory.Vector {
	v := new(memory.Vector)
	v.Set(pieces)
	return v
}

func newQcow2(t testing.TB, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	args = append([]string{"create", "-q", "-f", "qcow2"}, append(args, path, "1M")...)
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	return path
}

func TestOpenRefuses(t *testing.T) {
	base := newQcow2(t)
	locked := file(t, make([]byte, 512))
	mustOpen(t, Config{Path: locked})
	damaged, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	damaged[36] = 0x7f // a table of millions of entries
	tests := []struct {
		name string
		c    Config
		want string
	}{
		{"absent", Config{Path: "/absent"}, "disk /absent: no such file or directory"},
		{"empty", Config{Path: file(t, nil)}, "it is empty"},
		{"odd size", Config{Path: file(t, make([]byte, 1000))}, "truncate -s %512"},
		{"directory", Config{Path: t.TempDir(), ReadOnly: true}, "neither a regular file nor a block device"},
		{"character device", Config{Path: "/dev/null"}, "neither a regular file nor a block device"},
		{"in use", Config{Path: locked}, "in use by another process"},
		{"in use by a writer", Config{Path: locked, ReadOnly: true}, "in use by another process"},
		{"unknown format", Config{Path: file(t, make([]byte, 512)), Format: "vmdk"}, "choose raw or qcow2"},
		{"qcow2 taken for raw", Config{Path: base, ReadOnly: true}, "format=qcow2,ro"},
		{"qcow2 to be written", Config{Path: base, Format: FormatQcow2}, `add "ro"`},
		{"not a qcow2", Config{Path: file(t, make([]byte, 512)), Format: FormatQcow2, ReadOnly: true}, "not a qcow2 image"},
		{"truncated qcow2", Config{Path: file(t, damaged[:100]), Format: FormatQcow2, ReadOnly: true}, "cut short"},
		{"damaged qcow2", Config{Path: file(t, damaged), Format: FormatQcow2, ReadOnly: true}, "its first table has"},
		{"qcow2 with a base", Config{Path: newQcow2(t, "-b", base, "-F", "qcow2"), Format: FormatQcow2, ReadOnly: true}, "based on another image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			image, err := Open(tt.c)
			if err == nil {
				image.Close()
				t.Fatal("it opens")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
}

// Many readers may share an image; a writer has it alone until it closes it.
func TestLock(t *testing.T) {
	path := file(t, make([]byte, 512))
	mustOpen(t, Config{Path: path, ReadOnly: true}).Close()
	a := mustOpen(t, Config{Path: path, ReadOnly: true})
	b := mustOpen(t, Config{Path: path, ReadOnly: true})
	if _, err := Open(Config{Path: path}); err == nil {
		t.Error("a writer beside readers")
	}
	a.Close()
	b.Close()
	mustOpen(t, Config{Path: path}).Close()
	mustOpen(t, Config{Path: path})
}

func TestRaw(t *testing.T) {
	for name, direct := range map[string]bool{"cached": false, "direct": true} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(".", "testdata-"+name) // tmpfs has no O_DIRECT everywhere
			if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(path)
			image := mustOpen(t, Config{Path: path, Direct: direct})
			data := make([]byte, 100<<10)
			rand.NewChaCha8([32]byte{}).Read(data)
			// Pieces at odd addresses and of odd sizes, too.
			if err := image.Write(vector(data[:1000], data[1000:]), 4096, false, true); err != nil {
				t.Fatal(err)
			}
			if err := image.Write(vector(data[:512]), 512, true, true); err != nil {
				t.Fatal(err)
			}
			if err := image.Flush(); err != nil {
				t.Error(err)
			}
			got := make([]byte, len(data))
			if err := image.Read(vector(got[:333], got[333:]), 4096, true); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Error("something else was read")
			}
			err := image.Read(vector(got), 4096, false)
			if direct && err != unix.EAGAIN || !direct && err != nil {
				t.Errorf("without waiting: %v", err)
			}
		})
	}
}

// Ahead of each write past the page cache, the file's times are made new.
func TestStamp(t *testing.T) {
	path := filepath.Join(".", "testdata-stamp") // tmpfs has no O_DIRECT everywhere
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	image := mustOpen(t, Config{Path: path, Direct: true})
	for range 3 {
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // no clock ticks as slowly
		if err := image.Write(vector(make([]byte, 4096)), 0, false, false); err != unix.EAGAIN {
			t.Fatalf("without waiting: %v", err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if age := time.Since(info.ModTime()); age > time.Minute {
			t.Errorf("modified %v ago", age)
		}
	}
}

// A range is zeroed on file systems that can do so by themselves, and on tmpfs.
func TestZero(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} {
		for _, unmap := range []bool{false, true} {
			const before, middle, after = 512, 3<<20 + 512, 1024
			data := bytes.Repeat([]byte{0xaa}, before+middle+after)
			f, err := os.CreateTemp(dir, "zero")
			if err != nil {
				t.Fatal(err)
			}
			defer os.Remove(f.Name())
			if _, err := f.Write(data); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if err := mustOpen(t, Config{Path: f.Name()}).Zero(before, middle, unmap); err != nil {
				t.Errorf("%s, unmap %v: %v", dir, unmap, err)
			}
			clear(data[before : before+middle])
			if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, unmap %v: something else is in the file, %v", dir, unmap, err)
			}
		}
	}
}

// A file that is cut short behind our back gives errors, and nothing else.
func TestCutShort(t *testing.T) {
	path := file(t, make([]byte, 8192))
	image := mustOpen(t, Config{Path: path})
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if err := image.Read(vector(make([]byte, 8192)), 0, true); err == nil {
		t.Error("reading past the end succeeds")
	}
}

// A qcow2 image reads as what QEMU makes of it, in any pieces, and is not written to.
func TestQcow2(t *testing.T) {
	data := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{7}).Read(data[:1<<20])
	copy(data[2<<20:], bytes.Repeat([]byte("compress me "), 20000))
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", file(t, data), path).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	image := mustOpen(t, Config{Path: path, Format: FormatQcow2, ReadOnly: true})
	if image.Size() != int64(len(data)) {
		t.Errorf("%d bytes", image.Size())
	}
	if err := image.Read(vector(make([]byte, 512)), 0, false); err != unix.EAGAIN {
		t.Errorf("without waiting: %v", err)
	}
	got := make([]byte, len(data))
	var group sync.WaitGroup
	for range 8 { // more than there are buffers
		got := make([]byte, len(data))
		group.Go(func() {
			if err := image.Read(vector(got[:1000], got[1000:]), 0, true); err != nil || !bytes.Equal(got, data) {
				t.Errorf("something else was read, or %v", err)
			}
		})
	}
	group.Wait()
	for what, err := range map[string]error{
		"write":   image.Write(vector(got[:512]), 0, false, true),
		"discard": image.Discard(0, 512),
		"zero":    image.Zero(0, 512, true),
	} {
		if err != unix.EROFS {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("the file has changed")
	}
}

// An image that was cut short is an error where the bytes are missing, in each
// format: it is not zero there.
func TestCutShortImages(t *testing.T) {
	data := bytes.Repeat([]byte{0xaa}, 1<<20)
	for _, format := range []Format{FormatRaw, FormatQcow2} {
		path := filepath.Join(t.TempDir(), "disk")
		if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", string(format), file(t, data), path).CombinedOutput(); err != nil {
			t.Fatalf("qemu-img: %v\n%s", err, out)
		}
		image := mustOpen(t, Config{Path: path, Format: format, ReadOnly: true})
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, info.Size()-4096); err != nil {
			t.Fatal(err)
		}
		if err := image.Read(vector(make([]byte, 4096)), 1<<20-4096, true); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v; want EIO", format, err)
		}
		if err := image.Read(vector(make([]byte, 4096)), 0, true); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}
