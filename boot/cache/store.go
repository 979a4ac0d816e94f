package cache

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmm/boot"
	"vmm/memory"
)

const (
	kernelSuffix = ".vmlinux"
	recordSuffix = ".is"
)

// open opens the kernel that was unpacked from a payload with the given sum. It
// fails for a file that is not as it was when the cache wrote it.
func (c *Cache) open(img *boot.Image, sum string) (*boot.Image, error) {
	is, err := c.record(sum + recordSuffix)
	if err != nil {
		return nil, err
	}
	f, err := c.openFile(sum+kernelSuffix, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	opened, err := identifyOwn(f)
	if err == nil && opened.String() != is {
		err = notAsItWas(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	kernel, err := kernelIn(f, img)
	if err != nil {
		return nil, err
	}
	// Nobody keeps others from writing to the file while it is read; but who
	// does changes its times. Of these only the first counts: another vmm may
	// replace or evict the file in the meantime, which leaves what is in it as
	// it was, and changes the second.
	kernel.Verify = func() error {
		now, err := identifyOwn(f)
		if err != nil {
			return err
		}
		if now.ctime = opened.ctime; now != opened {
			return notAsItWas(f)
		}
		return nil
	}
	return kernel, nil
}

// kernelIn is the kernel that a file holds, unpacked from img. It takes the file
// over.
func kernelIn(f *os.File, img *boot.Image) (*boot.Image, error) {
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	kernel, err := img.Unpacked(f, info.Size(), f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return kernel, nil
}

// identifyOwn is the identity of a file of the cache. It fails when others may
// write to it.
func identifyOwn(f *os.File) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return identity{}, err
	}
	if !trusted(&st) {
		return identity{}, notAsItWas(f)
	}
	return identityOf(&st), nil
}

func notAsItWas(f *os.File) error { return fmt.Errorf("%s is not as it was", f.Name()) }

// unpack unpacks a kernel and keeps it for the next time. The machine is put together
// while it goes to the disk, and waits for that before its guest runs, if vmm is to be
// in its sandbox then.
func (c *Cache) unpack(img *boot.Image, sum string) (*boot.Image, error) {
	vmlinux, free, err := img.UnpackTo(memory.Scratch)
	if err != nil {
		return nil, err
	}
	read := make(chan struct{}) // closed when the machine has read it
	kernel, err := img.Unpacked(bytes.NewReader(vmlinux), int64(len(vmlinux)), closer(func() error { close(read); return nil }))
	if err != nil {
		return nil, errors.Join(err, free())
	}
	c.writers.Go(func() {
		if err := c.store(sum, vmlinux); err != nil {
			c.log.Debug("kernel not kept in the cache", "error", err)
		}
		<-read
		if err := free(); err != nil {
			c.log.Debug("kernel's memory not given back", "error", err)
		}
	})
	return kernel, nil
}

// closer is a function as an io.Closer.
type closer func() error

func (c closer) Close() error { return c() }

// store writes a kernel to disk.
func (c *Cache) store(sum string, vmlinux []byte) error {
	var free unix.Statfs_t
	if err := unix.Fstatfs(c.fd, &free); err != nil {
		return err
	}
	if left := free.Bavail * uint64(free.Bsize); left < 2*uint64(len(vmlinux)) {
		return fmt.Errorf("the disk has only %d MiB left", left>>20)
	}
	var is identity
	err := c.replace(sum+kernelSuffix, func(f *os.File) error {
		if err := writeSparse(f, vmlinux); err != nil {
			return err
		}
		// So that after a power failure the file is whole or absent.
		return unix.Fdatasync(int(f.Fd()))
	})
	if err != nil {
		return err
	}
	// Of the file as it is now: the renaming has changed its times once more.
	f, err := c.openFile(sum+kernelSuffix, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if is, err = identify(f); err != nil {
		return err
	}
	if err := c.setRecord(sum+recordSuffix, is.String()); err != nil {
		return err
	}
	return c.evict(sum)
}

// writeSparse writes data to an empty file, and leaves holes where pages are
// zero.
func writeSparse(f *os.File, data []byte) error {
	err := memory.NonZero(data, func(off int, run []byte) error {
		_, err := f.WriteAt(run, int64(off))
		return err
	})
	if err != nil {
		return err
	}
	return f.Truncate(int64(len(data)))
}

const (
	// abandoned is the age at which a file in the making is nobody's.
	abandoned = time.Hour
	// maxRecords is how many records of users' files are kept.
	maxRecords = 1000
)

// evict removes kernels until the rest fits the limit, those first that have not
// been read for longest, but not the one with the given sum; and what belongs to
// kernels that are gone.
func (c *Cache) evict(keep string) error {
	names, err := namesIn(c.fd)
	if err != nil {
		return err
	}
	type file struct {
		name string
		used time.Time
		size int64
	}
	var kernels, records []file
	total := int64(0)
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(c.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue // another vmm was faster
		}
		used := time.Unix(0, max(st.Atim.Nano(), st.Mtim.Nano()))
		f := file{name, used, st.Blocks * 512}
		switch {
		case strings.HasSuffix(name, kernelSuffix):
			kernels = append(kernels, f)
			total += f.size
		case strings.HasPrefix(name, "of-"):
			records = append(records, f)
		case strings.HasPrefix(name, "new-") && time.Since(used) > abandoned:
			c.remove(name)
		}
	}
	oldest := func(a, b file) int { return a.used.Compare(b.used) }
	slices.SortFunc(kernels, oldest)
	for _, k := range kernels {
		if sum := strings.TrimSuffix(k.name, kernelSuffix); total > c.limit && sum != keep {
			c.remove(k.name)
			c.remove(sum + recordSuffix)
			total -= k.size
		}
	}
	slices.SortFunc(records, oldest)
	for _, r := range records[:max(0, len(records)-maxRecords)] {
		c.remove(r.name)
	}
	return nil
}

// remove removes a file, which another vmm may have done before.
func (c *Cache) remove(name string) {
	if err := unix.Unlinkat(c.fd, name, 0); err != nil && err != unix.ENOENT {
		c.log.Debug("not removed from the cache", "name", name, "error", err)
	}
}

// namesIn are the names in a folder.
func namesIn(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}
