// Package image makes disk images for machines: an ext4 file system with the
// contents of a folder, an archive, a container image, or a Debian system. It
// needs no rights. The work is that of tar, mke2fs and, where the user is not
// root, fakeroot, which remembers the owners that files would have.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Source is what an image is made from.
type Source string

// The sources.
const (
	Debian Source = "debian"     // packages, from Debian's archive
	Dir    Source = "dir"        // a folder; made by another than root, all of it is root's in the image
	Tar    Source = "tar"        // an archive, compressed or not
	OCI    Source = "oci-layout" // a folder with a container image
)

// Config describes an image.
type Config struct {
	From Source
	// Path is the folder or archive. Debian has none.
	Path string
	// Output is the file that is made. One that is there is replaced, once
	// the new one is whole.
	Output string
	// Size is that of the file system, in bytes; 0 for what is in it and half
	// as much again.
	Size uint64
	// Packages are added to a Debian system.
	Packages []string
	// Overlay is a folder whose files, owned by root, are added to the image
	// or replace others there; "" for none.
	Overlay string
	// Log receives what the programs say.
	Log io.Writer
}

// Build makes an image. Kernels and initial RAM disks that it has in /boot are
// copied to a folder beside it, for "vmm boot": the path of the image, and
// ".boot".
func Build(ctx context.Context, c Config) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(c.Output), ".vmm-image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.remove(work)) }()
	contents, done, err := c.open(ctx, work)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { contents.Close() }) // who reads it may be waiting for more
	packErr := c.pack(ctx, work, contents)
	stop()
	contents.Close()
	// The end of what writes the archive says more than that of its reader.
	err = errors.Join(done(), packErr)
	if ctx.Err() != nil {
		return errors.New("interrupted; no image was made")
	}
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(work, "image"), c.Output); err != nil {
		return err
	}
	return c.moveBoot(filepath.Join(work, "boot"))
}

func (c *Config) check() error {
	programs := []string{"tar", "mke2fs"}
	if os.Geteuid() != 0 {
		programs = append(programs, "fakeroot")
	}
	if c.From == Debian {
		programs = append(programs, "mmdebstrap")
	}
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			pkg := name
			if name == "mke2fs" {
				pkg = "e2fsprogs"
			}
			return fmt.Errorf("%s is not installed; run: apt-get install %s", name, pkg)
		}
	}
	if c.Size != 0 && c.Size < minSize {
		return fmt.Errorf("a file system of %d bytes: choose at least %dM", c.Size, minSize>>20)
	}
	if c.From == Dir {
		if err := checkFolder(c.Path, c.Output); err != nil {
			return err
		}
	}
	if c.Overlay != "" {
		return checkFolder(c.Overlay, c.Output)
	}
	return nil
}

// minSize is that of the smallest file system that can be asked for, in bytes.
const minSize = 1 << 20

// checkFolder looks at a folder whose files are to be in an image. The image, which
// is made beside the output, cannot be among them.
func checkFolder(dir, output string) error {
	var folder, place unix.Stat_t
	if err := unix.Stat(dir, &folder); err != nil {
		return fmt.Errorf("folder %s: %w", dir, err)
	}
	if folder.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("folder %s: %w", dir, unix.ENOTDIR)
	}
	at, err := filepath.EvalSymlinks(filepath.Dir(output))
	if err == nil {
		at, err = filepath.Abs(at)
	}
	if err != nil {
		return err
	}
	for ; ; at = filepath.Dir(at) {
		if err := unix.Stat(at, &place); err != nil {
			return fmt.Errorf("folder %s: %w", at, err)
		}
		switch {
		case place.Dev != folder.Dev: // tar leaves other file systems out
			return nil
		case place.Ino == folder.Ino:
			return fmt.Errorf("the image %s would lie in the folder %s that it is made of; put it elsewhere", output, dir)
		case at == filepath.Dir(at):
			return nil
		}
	}
}

// packScript makes the file system from an archive on its standard input. It is
// one script because fakeroot forgets the owners at its end.
const packScript = `
work=$1 overlay=$2 size=$3
mkdir "$work/tree" "$work/boot"
unpack() { tar -x --numeric-owner --same-owner -p --xattrs --xattrs-include='*' -C "$work/tree" -f -; }
unpack
cat >/dev/null # to the end, which comes when its writer has cleaned up
[ -z "$overlay" ] || tar -c --owner=0 --group=0 -C "$overlay" -f - . | unpack
chmod 755 "$work/tree"
# What a system mounts things on, and containers come without.
for dir in dev proc sys run tmp; do mkdir -p "$work/tree/$dir"; done
chmod 1777 "$work/tree/tmp"
if [ "$size" = 0 ]; then
	used=$(du -sk "$work/tree" | cut -f1)
	size=$(((used * 3 / 2 + 64 * 1024) / 1024 * 1024 * 1024))
fi
truncate -s "$size" "$work/image"
mke2fs -q -F -t ext4 -b 4096 -i 8192 -d "$work/tree" "$work/image"
for file in "$work"/tree/boot/vmlinuz-* "$work"/tree/boot/initrd.img-*; do
	[ ! -f "$file" ] || cp "$file" "$work/boot/"
done
`

func (c *Config) pack(ctx context.Context, work string, contents io.Reader) error {
	args := []string{"sh", "-euc", packScript, "sh", work, c.Overlay, strconv.FormatUint(c.Size, 10)}
	if os.Geteuid() != 0 {
		args = append([]string{"fakeroot", "--"}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = contents
	// mke2fs is in /sbin, which is not in everybody's path.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	return c.run(cmd)
}

// run runs a program. When it fails, what it said last is the error.
func (c *Config) run(cmd *exec.Cmd) error {
	last := &tail{}
	cmd.Stderr = io.MultiWriter(c.Log, last)
	if cmd.Stdout == nil {
		cmd.Stdout = cmd.Stderr
	}
	// A program that is killed may have left its input waiting.
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Args[0]), err, last)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-300):]
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.text)) }

// open begins to read what the image is made from, as a tar archive. done, once
// it has been read or closed, says whether that was all of it.
func (c *Config) open(ctx context.Context, work string) (contents io.ReadCloser, done func() error, err error) {
	none := func() error { return nil }
	switch c.From {
	case Dir:
		args := []string{"tar", "-c", "--xattrs", "--one-file-system", "-C", c.Path, "-f", "-"}
		if os.Geteuid() != 0 {
			args = append(args, "--owner=0", "--group=0")
		}
		return c.pipe(exec.CommandContext(ctx, args[0], append(args[1:], ".")...))
	case Tar:
		file, err := os.Open(c.Path)
		if err != nil {
			return nil, nil, err
		}
		r, err := decompress(file)
		if err != nil {
			file.Close()
			return nil, nil, fmt.Errorf("%s: %w", c.Path, err)
		}
		return struct {
			io.Reader
			io.Closer
		}{r, file}, none, nil
	case OCI:
		r, err := openOCI(c.Path)
		return r, none, err
	case Debian:
		args, err := c.debootstrap(work)
		if err != nil {
			return nil, nil, err
		}
		return c.pipe(exec.CommandContext(ctx, args[0], args[1:]...))
	}
	return nil, nil, fmt.Errorf("an image from %q: choose debian, dir, tar or oci-layout", c.From)
}

// pipe runs a program that writes an archive.
func (c *Config) pipe(cmd *exec.Cmd) (io.ReadCloser, func() error, error) {
	r, w := io.Pipe()
	cmd.Stdout = w
	ended := make(chan error, 1)
	go func() {
		err := c.run(cmd)
		w.CloseWithError(err)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
			err = nil // its reader failed, and says why
		}
		ended <- err
	}()
	return r, func() error { return <-ended }, nil
}

// moveBoot puts the kernels beside the image.
func (c *Config) moveBoot(from string) error {
	to := c.Output + ".boot"
	if files, err := os.ReadDir(from); err != nil || len(files) == 0 {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// remove removes the work folder, in which folders may be read-only.
func (c *Config) remove(work string) error {
	_ = filepath.WalkDir(work, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(work)
}
