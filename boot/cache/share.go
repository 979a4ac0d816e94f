package cache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vmm/boot"
	"vmm/memory"
)

// Machines that run at the same time share a kernel, or an initrd, through a
// memory file that is sealed: nobody can change or shrink it any more, root
// included, and so guests can have its pages mapped. (A file on disk would not do.
// It can be truncated, and takes pages away from whoever has them mapped, even
// those that they have a copy of their own of.)
//
// The first machine makes the memory file, and leaves a note in shared/ where to
// find it: CONTENTS.PID.FD. Others open it through /proc/PID/fd/FD, leave notes of
// their own, and so it lasts as long as any of them. A note without a process, or
// of one that has something else open there, is removed by whoever finds it.
const shared = "shared"

// allSeals are the seals of a memory file that is shared: those that it can be
// mapped with, and that none is taken off.
const allSeals = memory.Seals | unix.F_SEAL_SEAL

// ShareKernel is Unpack for a kernel that is to be mapped and not copied. The
// image is Sealed.
func (c *Cache) ShareKernel(img *boot.Image) (*boot.Image, error) {
	sum, err := c.payloadSum(img)
	if err != nil {
		return nil, err
	}
	f, err := c.shareFile("kernel-"+sum, func(to *os.File) error {
		kernel, err := c.Unpack(img)
		if err != nil {
			return err
		}
		defer kernel.Close()
		r, size := kernel.Reader()
		if err := copySparse(to, r, size); err != nil {
			return err
		}
		if kernel.Verify != nil {
			return kernel.Verify()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	kernel, err := kernelIn(f, img)
	if err != nil {
		return nil, err
	}
	kernel.Sealed = f
	return kernel, nil
}

// ShareFile is an image that [boot.Open] has opened, and in which nothing is
// packed, as one that is to be mapped and not copied. Close both.
func (c *Cache) ShareFile(img *boot.Image) (*boot.Image, error) {
	_, size := img.Reader()
	sealed, err := c.shareCopy("image", img.File(), size)
	if err != nil {
		return nil, err
	}
	shared, err := boot.OpenFile(img.Name, sealed)
	if err != nil {
		return nil, err
	}
	shared.Sealed = sealed
	return shared, nil
}

// ShareInitrd makes an initrd, which is the file f, one that is to be mapped and
// not copied. Close the file that it returns after the initrd has been loaded.
func (c *Cache) ShareInitrd(d *boot.Initrd, f *os.File) (io.Closer, error) {
	sealed, err := c.shareCopy("initrd", f, d.Size)
	if err != nil {
		return nil, err
	}
	d.Data, d.Sealed = sealed, sealed
	return sealed, nil
}

// shareCopy is the sealed memory file with the first size bytes of f.
func (c *Cache) shareCopy(kind string, f *os.File, size int64) (*os.File, error) {
	before, err := identify(f)
	if err != nil {
		return nil, err
	}
	sum, err := c.sum(f, io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, err
	}
	return c.shareFile(kind+"-"+sum, func(to *os.File) error {
		if err := copySparse(to, f, size); err != nil {
			return err
		}
		if after, err := identify(f); err != nil || after != before {
			return errors.Join(fmt.Errorf("%s changed while it was read", f.Name()), err)
		}
		return nil
	})
}

// shareFile is the sealed memory file with some contents: that of another
// machine, or a new one, filled by fill.
func (c *Cache) shareFile(contents string, fill func(*os.File) error) (*os.File, error) {
	if err := c.openShares(); err != nil {
		return nil, err
	}
	f, err := c.findShared(contents)
	if err != nil {
		return nil, err
	}
	if f == nil {
		// Machines that start together: one makes it, the others wait for it.
		lock, err := unix.Openat(c.shared, "lock", unix.O_CREAT|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock of the shared kernels: %w", err)
		}
		defer unix.Close(lock)
		if err := unix.Flock(lock, unix.LOCK_EX); err != nil {
			return nil, fmt.Errorf("lock of the shared kernels: %w", err)
		}
		if f, err = c.findShared(contents); err != nil {
			return nil, err
		}
	}
	if f == nil {
		if f, err = newShared(contents, fill); err != nil {
			return nil, err
		}
	}
	return f, c.offer(f, contents)
}

// openShares opens the folder of the notes, and makes it where it is missing.
func (c *Cache) openShares() error {
	if c.shared >= 0 {
		return nil
	}
	if err := unix.Mkdirat(c.fd, shared, 0o700); err != nil && err != unix.EEXIST {
		return fmt.Errorf("%s in the cache: %w", shared, err)
	}
	fd, err := unix.Openat(c.fd, shared, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s in the cache: %w", shared, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || !trusted(&st) {
		unix.Close(fd)
		return fmt.Errorf("%s in the cache: %w", shared, errors.Join(errOthers, err))
	}
	c.shared = fd
	return nil
}

// memoryName is what /proc calls the memory file with some contents.
func memoryName(contents string) string { return "vmm-" + contents }

// findShared looks for a machine that shares some contents; nil if there is none.
func (c *Cache) findShared(contents string) (*os.File, error) {
	notes, err := namesIn(c.shared)
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		where, ok := strings.CutPrefix(note, contents+".")
		if !ok {
			continue
		}
		pid, fd, _ := strings.Cut(where, ".")
		f, err := openShared(filepath.Join("/proc", pid, "fd", fd), contents)
		if err == nil {
			return f, nil
		}
		c.log.Debug("nothing shared there", "note", note, "reason", err)
		_ = unix.Unlinkat(c.shared, note, 0) // another vmm may have been faster
	}
	return nil, nil
}

// openShared opens what a process has open, if that is the sealed memory file with
// some contents, and made by this user.
func openShared(path, contents string) (*os.File, error) {
	link, err := os.Readlink(path)
	if err != nil {
		return nil, err
	}
	if want := "/memfd:" + memoryName(contents) + " (deleted)"; link != want {
		return nil, fmt.Errorf("%s is %s", path, link)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err == nil && (seals&allSeals != allSeals || int(st.Uid) != os.Geteuid()) {
		err = fmt.Errorf("%s is not sealed, or another user's", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// newShared makes a sealed memory file.
func newShared(contents string, fill func(*os.File) error) (*os.File, error) {
	fd, err := unix.MemfdCreate(memoryName(contents), unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), memoryName(contents))
	err = fill(f)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, allSeals)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// offer leaves a note where this process has a memory file open, for as long as
// it lives.
func (c *Cache) offer(f *os.File, contents string) error {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	name := contents + "." + strconv.Itoa(os.Getpid()) + "." + strconv.Itoa(fd)
	note, err := unix.Openat(c.shared, name, unix.O_CREAT|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("note in the cache: %w", err), unix.Close(fd))
	}
	c.offers = append(c.offers, offered{name, fd})
	return unix.Close(note)
}

// copySparse copies size bytes to an empty file, and leaves holes where pages are
// zero.
func copySparse(to *os.File, from io.ReaderAt, size int64) error {
	buffer := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(buffer)) {
		part := buffer[:min(int64(len(buffer)), size-at)]
		if _, err := io.ReadFull(io.NewSectionReader(from, at, int64(len(part))), part); err != nil {
			return err
		}
		err := memory.NonZero(part, func(off int, run []byte) error {
			_, err := to.WriteAt(run, at+int64(off))
			return err
		})
		if err != nil {
			return err
		}
	}
	return to.Truncate(size)
}
