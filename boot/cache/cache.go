// Package cache remembers unpacked kernels from one machine to the next: on
// disk, where the next start reads them, and in memory, where machines that run
// at the same time can share them.
//
// What is wrong with the cache never stops a machine: the kernel is unpacked
// once more then.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vmm/boot"
)

// Cache is a folder with these files:
//
//	SUM.vmlinux       a kernel, unpacked from a payload with that SHA-256
//	SUM.is            a record: the identity of that file when it was written
//	of-IDENTITY-...   a record: the SHA-256 of a part of a file of the user's
//	shared/           machines that have something to share: see share.go
//	new-...           a file in the making
//
// Files come into being under another name and are renamed, so that each is
// whole or absent, whoever else writes at the same time. None is ever changed.
type Cache struct {
	dir     string // for messages; the work is done by descriptors
	fd      int    // of it
	shared  int    // of shared/; -1 for not opened
	limit   int64
	log     *slog.Logger
	writers sync.WaitGroup
	offers  []offered // to share
}

// offered is what this process offers to share: the name of its note in shared/,
// and the file descriptor.
type offered struct {
	note string
	fd   int
}

// DefaultLimit is how large the kernels on disk may become, in bytes: some
// twenty of Debian's.
const DefaultLimit = 1 << 30

// Dir is where the user's cache belongs: a folder of $XDG_CACHE_HOME or
// ~/.cache.
func Dir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "vmm", "unpacked"), nil
}

// Open opens the cache in a folder, and makes the folder if needed. It evicts the
// least recently used kernels until limit bytes are left. Only this user may be able
// to write to the folder or to replace it: whoever can do that decides what boots.
func Open(dir string, limit int64, log *slog.Logger) (*Cache, error) {
	fd, err := openFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", dir, err)
	}
	return &Cache{dir: dir, fd: fd, shared: -1, limit: limit, log: log}, nil
}

// Wait waits until a kernel that is on its way to the disk is there.
func (c *Cache) Wait() { c.writers.Wait() }

// Close waits until what is being written has been, and takes back what this
// process offered to share.
func (c *Cache) Close() {
	c.Wait()
	for _, o := range c.offers {
		_ = unix.Unlinkat(c.shared, o.note, 0) // or others find out by themselves
		_ = unix.Close(o.fd)
	}
	c.offers = nil
	if c.shared >= 0 {
		_ = unix.Close(c.shared)
	}
	_ = unix.Close(c.fd)
}

// trusted reports whether only this user can change a file.
func trusted(st *unix.Stat_t) bool {
	return int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0
}

// Unpack is [boot.Image.Unpack] with a memory.
func (c *Cache) Unpack(img *boot.Image) (*boot.Image, error) {
	sum, err := c.payloadSum(img)
	if err != nil {
		c.log.Debug("kernel not looked up in the cache", "error", err)
		return img.Unpack()
	}
	kernel, err := c.open(img, sum)
	if err == nil {
		return kernel, nil
	}
	c.log.Debug("kernel not in the cache", "reason", err)
	return c.unpack(img, sum)
}

// payloadSum is the SHA-256 of the image's payload, in hexadecimal.
func (c *Cache) payloadSum(img *boot.Image) (string, error) {
	payload, err := img.PayloadReader()
	if err != nil {
		return "", err
	}
	return c.sum(img.File(), payload)
}

// sum is the SHA-256, in hexadecimal, of a part of a file, or of what is nowhere
// in a file. It is worked out once for as long as the file stays as it is.
func (c *Cache) sum(f *os.File, part *io.SectionReader) (string, error) {
	if f == nil {
		return hash(part)
	}
	before, err := identify(f)
	if err != nil {
		return "", err
	}
	_, off, size := part.Outer()
	name := fmt.Sprintf("of-%s-%x-%x", before, off, size)
	if sum, err := c.record(name); err == nil {
		return sum, nil
	}
	sum, err := hash(part)
	if err != nil {
		return "", err
	}
	// A file may have been written to twice within a tick of its file system's
	// clock. Then it looks as before, and only time tells.
	if after, err := identify(f); err == nil && after == before && time.Since(after.changed()) > settled {
		if err := c.setRecord(name, sum); err != nil {
			c.log.Debug("sum not recorded", "error", err)
		}
	}
	return sum, nil
}

// settled is the age from which on a file's identity is trusted.
const settled = time.Second

func hash(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// identity tells a file from others and from itself before a change. Whoever
// writes to a file changes its times, of which the last cannot be set at will.
type identity struct {
	dev, ino, size, mtime, ctime int64 // times in nanoseconds
}

func (id identity) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id.dev, id.ino, id.size, id.mtime, id.ctime)
}

// changed is when the file changed last.
func (id identity) changed() time.Time { return time.Unix(0, max(id.mtime, id.ctime)) }

func identify(f *os.File) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return identity{}, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	return identityOf(&st), nil
}

func identityOf(st *unix.Stat_t) identity {
	return identity{int64(st.Dev), int64(st.Ino), st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// record reads a record. Its file says what it is a record of, so that one that
// is damaged, or another, is as good as none.
func (c *Cache) record(name string) (string, error) {
	// By plain system calls: os.File would make twice as many, and this happens at
	// each start.
	fd, err := unix.Openat(c.fd, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer unix.Close(fd)
	var data [256]byte
	n, err := unix.Read(fd, data[:])
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	value, check, _ := strings.Cut(string(data[:n]), " ")
	if check != recordCheck(name, value) {
		return "", fmt.Errorf("%s is damaged", name)
	}
	return value, nil
}

func (c *Cache) setRecord(name, value string) error {
	return c.replace(name, func(f *os.File) error {
		_, err := f.WriteString(value + " " + recordCheck(name, value))
		return err
	})
}

func recordCheck(name, value string) string {
	sum := sha256.Sum256([]byte(name + " " + value))
	return hex.EncodeToString(sum[:8])
}

// replace makes a file of the cache, and replaces the one that was there.
func (c *Cache) replace(name string, write func(*os.File) error) error {
	new := fmt.Sprintf("new-%016x", rand.Uint64())
	f, err := c.openFile(new, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Chmod(0o400)
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = unix.Renameat(c.fd, new, c.fd, name)
	}
	if err != nil {
		_ = unix.Unlinkat(c.fd, new, 0)
	}
	return err
}

// openFile opens a file of the cache, no link.
func (c *Cache) openFile(name string, flags int) (*os.File, error) {
	path := filepath.Join(c.dir, name)
	fd, err := unix.Openat(c.fd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
