// Package image makes disk images for machines: an ext4 file system with the
// contents of a folder, an archive, a container image, or a Debian system. It
// needs no rights: where the user is not root, fakeroot shows mke2fs the owners
// that files would have. What is in an image leads nowhere outside of it: see
// package tree.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmm/image/tree"
	"vmm/untrusted"
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
	// Output is the file that is made. With Replace, one that exists is replaced,
	// once the new one is whole; without, it is an error.
	Output  string
	Replace bool
	// Size is that of the file system, in bytes; 0 for what is in it and half
	// as much again.
	Size uint64
	// Packages are added to a Debian system, and Access is who can log in to it.
	Packages []string
	Access   Access
	// Overlay is a folder whose files, owned by root, are added to the image
	// or replace others there; "" for none.
	Overlay string
	// Log receives what the programs say.
	Log io.Writer
	// Progress is called with what is done, step by step; nil for nobody.
	Progress func(step string)
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
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	err = c.build(ctx, work)
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

// Unpack unpacks what an image is to be made from into a tree, with folders to mount
// things on. Output and Size have no meaning.
func Unpack(ctx context.Context, c Config, t *tree.Tree) error {
	if c.From == Dir {
		if err := checkFolder(c.Path, t.Path()); err != nil {
			return err
		}
	}
	return c.fill(ctx, t, "")
}

func (c *Config) build(ctx context.Context, work string) (err error) {
	t, err := tree.Make(filepath.Join(work, "tree"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := c.fill(ctx, t, work); err != nil {
		return err
	}
	boot := filepath.Join(work, "boot")
	if err := os.Mkdir(boot, 0o755); err != nil {
		return err
	}
	if err := copyBoot(t, boot); err != nil {
		return err
	}
	return c.makeFS(ctx, t, work)
}

// fill unpacks what the image is made from.
func (c *Config) fill(ctx context.Context, t *tree.Tree, work string) error {
	if c.From == OCI {
		container, err := OpenContainer(c.Path)
		if err != nil {
			return err
		}
		err = container.Unpack(t, ctx.Err)
		if err := errors.Join(err, container.Close()); err != nil {
			return err
		}
	} else if err := c.unpack(ctx, t, tree.Archive{}, func() (io.ReadCloser, func() error, error) { return c.open(ctx, work) }); err != nil {
		return err
	}
	if c.Overlay != "" {
		err := c.unpack(ctx, t, tree.Archive{Root: true}, func() (io.ReadCloser, func() error, error) {
			return c.pipe(exec.CommandContext(ctx, "tar", "-c", "-C", c.Overlay, "-f", "-", "."))
		})
		if err != nil {
			return err
		}
	}
	// What a system mounts things on, and containers come without.
	for _, name := range []string{"dev", "proc", "sys", "run", "tmp"} {
		if _, err := t.MakeFolder(name); err != nil {
			return err
		}
	}
	return t.Chmod("tmp", 0o1777)
}

// unpack unpacks an archive that open opens.
func (c *Config) unpack(ctx context.Context, t *tree.Tree, a tree.Archive, open func() (io.ReadCloser, func() error, error)) error {
	contents, done, err := open()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { contents.Close() }) // who reads it may be waiting for more
	unpackErr := t.Unpack(contents, a)
	stop()
	contents.Close()
	// The end of what writes the archive says more than that of its reader.
	return errors.Join(done(), unpackErr)
}

// The files of /boot that are copied beside the image.
var bootFiles = []string{"vmlinuz-*", "initrd.img-*"}

// maxBoot is how large those files may be together, in bytes: of holes in them the
// copies would have none.
const maxBoot = 4 << 30

// copyBoot copies kernels and initial RAM disks.
func copyBoot(t *tree.Tree, to string) error {
	var sum int64
	err := eachBootFile(t, func(_ string, f *os.File) error {
		info, err := f.Stat()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err == nil && sum > maxBoot {
		err = fmt.Errorf("the kernels and initial RAM disks in its /boot have %d MiB; at most %d are copied", sum>>20, maxBoot>>20)
	}
	if err != nil {
		return err
	}
	return eachBootFile(t, func(name string, f *os.File) error { return copyFile(filepath.Join(to, name), f) })
}

// eachBootFile calls f with each of those files.
func eachBootFile(t *tree.Tree, f func(name string, file *os.File) error) error {
	for _, pattern := range bootFiles {
		names, err := t.Glob("boot", pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			file, err := t.Open("boot/" + name)
			if err != nil {
				continue // a folder, or a link that leads nowhere
			}
			err = f(name, file)
			if err := errors.Join(err, file.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyFile(path string, from io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, from)
	return err
}

// Validate looks for what contradicts itself, on whatever host.
func (c *Config) Validate() error {
	if c.From != Debian && (len(c.Packages) > 0 || c.Access != Access{}) {
		return fmt.Errorf("packages, a user, a password, a key and a host name can be given to a system from debian, and this is an image from %s", c.From)
	}
	if c.Size != 0 && c.Size < minSize {
		return fmt.Errorf("a file system of %d bytes: choose at least %dM", c.Size, minSize>>20)
	}
	return c.Access.Check()
}

func (c *Config) check() error {
	if err := c.Validate(); err != nil {
		return err
	}
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
	if _, err := os.Lstat(c.Output); err == nil && !c.Replace {
		return fmt.Errorf("%s exists; choose another name, or replace it with --force", c.Output)
	}
	if c.From == Dir {
		if err := checkFolder(c.Path, c.Output); err != nil {
			return err
		}
	}
	if c.Overlay != "" {
		if err := checkFolder(c.Overlay, c.Output); err != nil {
			return err
		}
	}
	return c.checkBoot()
}

// checkBoot looks at the folder for kernels beside the image, which is replaced.
func (c *Config) checkBoot() error {
	dir := c.Output + ".boot"
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		ours := slices.ContainsFunc(bootFiles, func(pattern string) bool { ok, _ := filepath.Match(pattern, f.Name()); return ok })
		if !ours || !f.Type().IsRegular() {
			return fmt.Errorf("%s, where the image's kernels would go, holds %q: move it, or choose another name for the image", dir, f.Name())
		}
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

// bytesPerInode is the ratio with which file systems are made that have more room
// than files: twice as many inodes as mke2fs would make.
const bytesPerInode = 8192

// inodeSize is the size of an inode, in bytes.
const inodeSize = 256

// maxSearch bounds the time that mke2fs takes to find a place for each name in its
// folder: 60 million blocks take it some five minutes. A folder with maxFlat files
// whose names have a dozen letters takes as much.
const (
	maxSearch = 60_000_000
	maxFlat   = 100_000
)

// makeFS makes the file system with the files of a tree.
func (c *Config) makeFS(ctx context.Context, t *tree.Tree, work string) error {
	usage, err := t.Finish()
	if err != nil {
		return err
	}
	if usage.Search > maxSearch {
		return fmt.Errorf("its folders hold so many files, /%s most, that mke2fs would take too long: for each file it looks through all of its folder; have at most about %d files in one, or fewer in each of several", untrusted.Text(usage.Widest), maxFlat)
	}
	c.step("making a file system of " + strconv.FormatInt(usage.Inodes, 10) + " files")
	inodes := usage.Inodes + usage.Inodes/4 + 1024
	size := int64(c.Size)
	if size == 0 {
		// Half as much again, and the journal.
		size = (usage.Bytes*3/2 + inodes*inodeSize + 64<<20) &^ (1<<20 - 1)
	}
	inodes = max(inodes, size/bytesPerInode)
	disk := filepath.Join(work, "image")
	f, err := os.OpenFile(disk, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("a file of %d MiB for the image: %w", size>>20, err)
	}
	mke2fs := []string{
		"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", strconv.Itoa(inodeSize), "-N", strconv.FormatInt(inodes, 10), "-d", t.Path(), disk,
	}
	if os.Geteuid() != 0 {
		if mke2fs, err = underFakeroot(t, work, mke2fs); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, mke2fs[0], mke2fs[1:]...)
	// mke2fs is in /sbin, which is not in everybody's path.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := c.run(cmd); err != nil {
		return fmt.Errorf("%d files of %d MiB in a file system of %d MiB: %w", usage.Inodes, usage.Bytes>>20, size>>20, err)
	}
	return nil
}

// fakerootScript executes a command under fakeroot, after it has given files
// attributes that only root may.
const fakerootScript = `
attributes=$1 tree=$2
shift 2
tar -x -p --same-owner --numeric-owner --overwrite --xattrs --xattrs-include='*' -C "$tree" -f "$attributes"
exec "$@"
`

// underFakeroot is a command that sees files with the owners, rights and devices
// that they are to have.
func underFakeroot(t *tree.Tree, work string, command []string) ([]string, error) {
	state, attributes := filepath.Join(work, "state"), filepath.Join(work, "attributes.tar")
	if err := writeFile(state, t.WriteState); err != nil {
		return nil, err
	}
	some := false
	err := writeFile(attributes, func(w io.Writer) (err error) {
		some, err = t.WriteAttributes(w)
		return err
	})
	if err != nil {
		return nil, err
	}
	if some {
		command = append([]string{"sh", "-euc", fakerootScript, "sh", attributes, t.Path()}, command...)
	}
	return append([]string{"fakeroot", "-i", state, "--"}, command...), nil
}

func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return write(f)
}

// run runs a program. When it fails, what it said last is the error.
func (c *Config) run(cmd *exec.Cmd) error {
	last := &tail{}
	cmd.Stderr = io.MultiWriter(c.Log, last, &steps{tell: c.step})
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

func (c *Config) step(what string) {
	if c.Progress != nil {
		c.Progress(what)
	}
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
		r, err := OpenArchive(c.Path)
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
