package cache

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/boot"
	"vmm/memory"
)

const kernelMap = 0xffff_ffff_8000_0000

// text is what a kernel begins with in memory.
const text = "the kernel's text"

// vmlinux is an ELF kernel of a few pages, with zeros at its end; what is in it
// depends on version.
func vmlinux(version string) []byte {
	le := binary.LittleEndian
	file := make([]byte, 16<<10+64)
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Entry: 16 << 20, Phoff: 64, Phentsize: 56, Phnum: 1,
		Shoff: 16 << 10, Shentsize: 64, Shnum: 1,
	}
	segment := elf.Prog64{Type: uint32(elf.PT_LOAD), Off: 4096, Vaddr: kernelMap + 16<<20, Paddr: 16 << 20, Filesz: 12 << 10, Memsz: 1 << 20}
	b, _ := binary.Append(nil, le, &header)
	b, _ = binary.Append(b, le, &segment)
	copy(file, b)
	copy(file[4096:], text+version)
	return file
}

// bzImage makes a kernel file with vmlinux in it.
func bzImage(t testing.TB, vmlinux []byte) string {
	t.Helper()
	var payload bytes.Buffer
	w := gzip.NewWriter(&payload)
	if _, err := w.Write(vmlinux); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h := boot.SetupHeader{
		SetupSects: 1, BootFlag: 0xaa55, Jump: 0x6aeb, Magic: 0x5372_6448, Version: 0x20f, LoadFlags: 1,
		InitrdAddrMax: 0x7fff_ffff, KernelAlignment: 2 << 20, RelocatableKernel: 1, XLoadFlags: 1, CmdlineSize: 255,
		PrefAddress: 16 << 20, InitSize: 4 << 20, PayloadLength: uint32(payload.Len()), SysSize: uint32(payload.Len()+15) / 16,
	}
	file := make([]byte, 1024)
	if _, err := binary.Encode(file[0x1f1:], binary.LittleEndian, &h); err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(t.TempDir(), "vmlinuz"), append(file, payload.Bytes()...))
}

// write writes a file that has not changed for a while.
func write(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// settle waits until the cache believes that files stay as they are.
func settle() { time.Sleep(settled + 100*time.Millisecond) }

func newCache(t testing.TB, dir string) *Cache {
	t.Helper()
	c, err := Open(dir, DefaultLimit, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// load loads a kernel file through the cache, and is what is in memory then.
func load(t testing.TB, path string, unpack func(*boot.Image) (*boot.Image, error)) string {
	t.Helper()
	mem, err := memory.New(memory.Layout(32<<20), memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	img, err := boot.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if _, err := img.Load(mem, boot.Params{Protocol: boot.Direct, Unpack: unpack}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 12<<10)
	if _, err := mem.ReadAt(got, 16<<20); err != nil {
		t.Fatal(err)
	}
	s, zeros, _ := strings.Cut(string(got), "\x00")
	if strings.Trim(zeros, "\x00") != "" {
		t.Errorf("behind the text there is %q", strings.Trim(zeros, "\x00"))
	}
	return s
}

// once opens the cache, loads a kernel, and closes the cache.
func once(t testing.TB, dir, path string) string {
	t.Helper()
	c := newCache(t, dir)
	defer c.Close()
	return load(t, path, c.Unpack)
}

// entry is the only kernel in the cache.
func entry(t testing.TB, dir string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"+kernelSuffix))
	if err != nil || len(all) != 1 {
		t.Fatalf("kernels in the cache: %v, %v; want one", all, err)
	}
	return all[0]
}

// kept opens the kernel of a file in the cache, where it must be; sum is its
// payload's.
func kept(t testing.TB, c *Cache, path string) (kernel *boot.Image, sum string) {
	t.Helper()
	img, err := boot.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	if sum, err = c.payloadSum(img); err != nil {
		t.Fatal(err)
	}
	if kernel, err = c.open(img, sum); err != nil {
		t.Fatalf("the kernel is not in the cache: %v", err)
	}
	t.Cleanup(func() { kernel.Close() })
	return kernel, sum
}

// The second start finds the kernel, without unpacking it.
func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	path := bzImage(t, vmlinux(""))
	settle()
	if got := once(t, dir, path); got != text {
		t.Fatalf("loaded %q", got)
	}
	file := entry(t, dir)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o400 || info.Size() != int64(len(vmlinux(""))) {
		t.Errorf("%v, %v", info, err)
	}
	// To show that it is read, put another in its place, with a record that says
	// it is right.
	c := newCache(t, dir)
	defer c.Close()
	sum := strings.TrimSuffix(filepath.Base(file), kernelSuffix)
	if err := c.store(sum, vmlinux(" from the cache")); err != nil {
		t.Fatal(err)
	}
	if got := load(t, path, c.Unpack); got != text+" from the cache" {
		t.Errorf("loaded %q; want what is in the cache", got)
	}
	// The same kernel in another file is the same.
	other := bzImage(t, vmlinux(""))
	if got := once(t, dir, other); got != text+" from the cache" {
		t.Errorf("loaded %q; want what is in the cache", got)
	}
}

// A file that changes is another kernel, even if it looks the same.
func TestKernelChanges(t *testing.T) {
	dir := t.TempDir()
	path := bzImage(t, vmlinux(" 1"))
	other, err := os.ReadFile(bzImage(t, vmlinux(" 2")))
	if err != nil {
		t.Fatal(err)
	}
	settle()
	if got := once(t, dir, path); got != text+" 1" {
		t.Fatalf("loaded %q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != int64(len(other)) {
		t.Fatalf("%v, %v: the files do not have the same size", info, err)
	}
	write(t, path, other)
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if got := once(t, dir, path); got != text+" 2" {
		t.Errorf("loaded %q", got)
	}
}

// Whatever happens to the files of the cache, the kernel is the right one, and
// the cache works again the next time.
func TestDamage(t *testing.T) {
	path := bzImage(t, vmlinux(""))
	settle()
	change := func(glob string, change func(path string) error) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			all, err := filepath.Glob(filepath.Join(dir, glob))
			if err != nil || len(all) == 0 {
				t.Fatalf("no %s in the cache (%v)", glob, err)
			}
			for _, path := range all {
				_ = os.Chmod(path, 0o600)
				if err := change(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	truncated := func(path string) error { return os.Truncate(path, 4100) }
	emptied := func(path string) error { return os.Truncate(path, 0) }
	rewritten := func(path string) error { return os.WriteFile(path, vmlinux(" of somebody else"), 0o600) }
	zeroed := func(path string) error { return os.WriteFile(path, make([]byte, 16<<10), 0o600) }
	flipped := func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[0] ^= 1
		return os.WriteFile(path, data, 0o600)
	}
	// As somebody does who wants to deceive, as far as that goes: the same size
	// and time.
	disguised := func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return errors.Join(rewritten(path), os.Chtimes(path, info.ModTime(), info.ModTime()), os.Chmod(path, 0o400))
	}
	replaced := func(path string) error { return errors.Join(os.Remove(path), rewritten(path), os.Chmod(path, 0o400)) }
	directory := func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }
	tests := map[string]func(*testing.T, string){
		"kernel truncated":  change("*"+kernelSuffix, truncated),
		"kernel emptied":    change("*"+kernelSuffix, emptied),
		"kernel zeroed":     change("*"+kernelSuffix, zeroed),
		"kernel rewritten":  change("*"+kernelSuffix, rewritten),
		"kernel disguised":  change("*"+kernelSuffix, disguised),
		"kernel replaced":   change("*"+kernelSuffix, replaced),
		"kernel removed":    change("*"+kernelSuffix, os.Remove),
		"kernel writable":   change("*"+kernelSuffix, func(path string) error { return os.Chmod(path, 0o666) }),
		"record emptied":    change("*"+recordSuffix, emptied),
		"record flipped":    change("*"+recordSuffix, flipped),
		"record zeroed":     change("*"+recordSuffix, zeroed),
		"record removed":    change("*"+recordSuffix, os.Remove),
		"sum emptied":       change("of-*", emptied),
		"sum flipped":       change("of-*", flipped),
		"sum removed":       change("of-*", os.Remove),
		"sum a directory":   change("of-*", directory),
		"record of another": change("of-*", func(path string) error { return os.WriteFile(path, []byte("0123 0123456789abcdef"), 0o600) }),
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			once(t, dir, path)
			damage(t, dir)
			for range 2 {
				if got := once(t, dir, path); got != text {
					t.Errorf("loaded %q", got)
				}
			}
			c := newCache(t, dir)
			defer c.Close()
			kept(t, c, path)
		})
	}
}

// Another vmm may replace or evict a kernel while it is read. What is read is not
// different for that, and a machine that shares it starts.
func TestReplacedWhileRead(t *testing.T) {
	path := bzImage(t, vmlinux(""))
	settle()
	for name, change := range map[string]func(c *Cache, sum string) error{
		"replaced": func(c *Cache, sum string) error { return c.store(sum, vmlinux("")) },
		"evicted": func(c *Cache, _ string) error {
			c.limit = 0
			return c.evict("")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			once(t, dir, path)
			c := newCache(t, dir)
			defer c.Close()
			kernel, sum := kept(t, c, path)
			before := entry(t, dir)
			old, err := os.Stat(before)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // a tick of the file system's clock

			if err := change(c, sum); err != nil {
				t.Fatal(err)
			}

			if now, err := os.Stat(before); err == nil && os.SameFile(now, old) {
				t.Fatal("the file is still there")
			}
			if err := kernel.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A kernel that changes while it is read is read once more, from the bzImage.
func TestChangesWhileRead(t *testing.T) {
	dir := t.TempDir()
	path := bzImage(t, vmlinux(""))
	settle()
	once(t, dir, path)
	c := newCache(t, dir)
	defer c.Close()
	changed := false
	got := load(t, path, func(img *boot.Image) (*boot.Image, error) {
		kernel, err := c.Unpack(img)
		if err == nil && kernel.Verify != nil {
			changed = true
			file := entry(t, dir)
			err = errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, vmlinux(" of somebody else"), 0o600))
		}
		return kernel, err
	})
	if !changed || got != text {
		t.Errorf("loaded %q (changed while it was read: %v)", got, changed)
	}
}

// Many at once get what they want, and leave the cache in order.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	paths := []string{bzImage(t, vmlinux(" 0")), bzImage(t, vmlinux(" 1")), bzImage(t, vmlinux(" 2"))}
	var group sync.WaitGroup
	for i := range 24 {
		group.Go(func() {
			c := newCache(t, dir)
			defer c.Close()
			unpack := c.Unpack
			if i%2 == 0 {
				unpack = c.ShareKernel
			}
			if got, want := load(t, paths[i%3], unpack), text+" "+strconv.Itoa(i%3); got != want {
				t.Errorf("loaded %q; want %q", got, want)
			}
		})
	}
	group.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "new-") {
			t.Errorf("%s is left", e.Name())
		}
	}
	notes, err := os.ReadDir(filepath.Join(dir, shared))
	if err != nil || len(notes) != 1 { // the lock
		t.Errorf("left in %s: %v, %v", shared, notes, err)
	}
}

// What is beyond the limit goes, the least recently used first.
func TestEvict(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, dir)
	for i := range 5 {
		sum := strconv.Itoa(i)
		if err := c.store(sum, vmlinux(sum)); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, sum+kernelSuffix), old, old); err != nil {
			t.Fatal(err)
		}
	}
	for name, age := range map[string]time.Duration{"new-1": 2 * time.Hour, "new-2": 0} {
		path := write(t, filepath.Join(dir, name), nil)
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "0"+kernelSuffix), &st); err != nil {
		t.Fatal(err)
	}
	c.limit = 3 * st.Blocks * 512
	if err := c.evict("0"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"0": true, // the one to keep
		"1": false, "2": false, "3": true, "4": true,
	} {
		for _, suffix := range []string{kernelSuffix, recordSuffix} {
			if _, err := os.Stat(filepath.Join(dir, name+suffix)); (err == nil) != want {
				t.Errorf("%s%s: %v; want it there: %v", name, suffix, err, want)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new-1")); err == nil {
		t.Error("what was abandoned is left")
	}
	if _, err := os.Stat(filepath.Join(dir, "new-2")); err != nil {
		t.Errorf("what is in the making is gone: %v", err)
	}
}

// A folder that others can write to is not used.
func TestUntrusted(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if c, err := Open(dir, DefaultLimit, nil); err == nil || !strings.Contains(err.Error(), "others") {
		t.Errorf("Open = %v, %v", c, err)
	}
	if c, err := Open("/proc/none", DefaultLimit, nil); err == nil {
		t.Errorf("Open = %v", c)
	}
}

// A folder that cannot be written to costs only time.
func TestReadOnly(t *testing.T) {
	path := bzImage(t, vmlinux(""))
	settle()
	dir := t.TempDir()
	c := newCache(t, dir)
	c.dir = "/proc/self/task" // where not even root can make files
	if got := load(t, path, c.Unpack); got != text {
		t.Errorf("loaded %q", got)
	}
	c.Close()
}

// Kernel and initrd are shared by who runs at the same time, and gone with them.
func TestShare(t *testing.T) {
	dir := t.TempDir()
	path := bzImage(t, vmlinux(""))
	initrd := write(t, filepath.Join(t.TempDir(), "initrd"), bytes.Repeat([]byte("initrd"), 2000))
	settle()
	open := func(c *Cache) (kernel *boot.Image, inode uint64, d *boot.Initrd) {
		t.Helper()
		img, err := boot.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer img.Close()
		if kernel, err = c.ShareKernel(img); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(initrd)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		d = &boot.Initrd{Name: initrd, Data: f, Size: 12000}
		closer, err := c.ShareInitrd(d, f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closer.Close() })
		id, err := identify(kernel.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		return kernel, uint64(id.ino), d
	}
	first, second := newCache(t, dir), newCache(t, dir)
	k1, ino1, _ := open(first)
	defer k1.Close()
	k2, ino2, d := open(second)
	defer k2.Close()
	if ino1 != ino2 {
		t.Errorf("inodes %d, %d; want one memory file", ino1, ino2)
	}
	if data, err := io.ReadAll(io.NewSectionReader(d.Sealed, 0, 1<<20)); err != nil || string(data) != strings.Repeat("initrd", 2000) {
		t.Errorf("initrd of %d bytes, %v", len(data), err)
	}
	// Nobody can change it any more.
	if _, err := k2.Sealed.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a shared kernel can be written to")
	}
	if f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(k2.Sealed.Fd())), os.O_RDWR|os.O_TRUNC, 0); err == nil {
		t.Error("a shared kernel can be truncated")
		f.Close()
	}
	if got := load(t, path, second.ShareKernel); got != text {
		t.Errorf("loaded %q", got)
	}
	first.Close()
	if k3, ino3, _ := open(second); ino3 != ino1 {
		t.Errorf("inode %d; want %d, which somebody still has", ino3, ino1)
	} else {
		k3.Close()
	}
	second.Close()
	k4, ino4, _ := open(newCache(t, dir))
	defer k4.Close()
	if ino4 == ino1 {
		t.Error("nobody offers the memory file any more, but it was found")
	}
}

// A kernel that is an executable file already is shared as that.
func TestShareFile(t *testing.T) {
	dir := t.TempDir()
	path := write(t, filepath.Join(t.TempDir(), "vmlinux"), vmlinux(" one"))
	open := func(c *Cache, want string) identity {
		t.Helper()
		img, err := boot.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer img.Close()
		shared, err := c.ShareFile(img)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { shared.Close() })
		mem, err := memory.New(memory.Layout(32<<20), memory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer mem.Close()
		if _, err := shared.Load(mem, boot.Params{}); err != nil {
			t.Fatal(err)
		}
		got, err := mem.Slice(16<<20, uint64(len(want)))
		if err != nil || string(got) != want {
			t.Errorf("loaded %q, %v, want %q", got, err, want)
		}
		id, err := identify(shared.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first, second := newCache(t, dir), newCache(t, dir)
	defer first.Close()
	defer second.Close()
	one := open(first, text+" one")
	if again := open(second, text+" one"); again.ino != one.ino {
		t.Errorf("inodes %d, %d; want one memory file", one.ino, again.ino)
	}
	write(t, path, vmlinux(" two"))
	if two := open(second, text+" two"); two.ino == one.ino {
		t.Error("the kernel has changed, and the memory file is the same")
	}
}

// Notes that lead nowhere, or to something else, are removed.
func TestShareStale(t *testing.T) {
	dir := t.TempDir()
	path := bzImage(t, vmlinux(""))
	settle()
	c := newCache(t, dir)
	defer c.Close()
	img, err := boot.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	sum, err := c.payloadSum(img)
	if err != nil {
		t.Fatal(err)
	}
	// An unsealed memory file with the right name, one with another, and no process.
	memfd := func(name string) int {
		fd, err := unix.MemfdCreate(name, unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	if err := os.Mkdir(filepath.Join(dir, shared), 0o700); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(os.Getpid())
	notes := []string{
		pid + "." + strconv.Itoa(memfd(memoryName("kernel-"+sum))), pid + "." + strconv.Itoa(memfd("other")),
		"999999999.3", "self.0", "../../../../etc.passwd", "",
	}
	for i, note := range notes {
		notes[i] = filepath.Join(dir, shared, "kernel-"+sum+"."+strings.ReplaceAll(note, "/", "_"))
		write(t, notes[i], nil)
	}
	if got := load(t, path, c.ShareKernel); got != text {
		t.Errorf("loaded %q", got)
	}
	for _, note := range notes {
		if _, err := os.Stat(note); err == nil {
			t.Errorf("%s is left", note)
		}
	}
}
