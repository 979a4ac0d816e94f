package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"vmm/image"
	"vmm/image/tree"
)

// source is an image as the user names it.
type source struct {
	// What its configuration says; nothing of a folder.
	entrypoint, command, env []string
	dir, user, stop          string
	// id tells its files from others'.
	id     string
	unpack func(context.Context, *tree.Tree) error
	close  func() error
}

// open opens an image: an OCI layout, an archive of 'docker save' or 'podman save', a
// folder with the files of a root file system, or one of a registry.
func (c *Cache) open(ctx context.Context, name string, say func(string)) (*source, error) {
	if !exists(name) && !looksLocal(name) {
		layout, err := c.pulled(ctx, name, say)
		if err != nil {
			return nil, fmt.Errorf("the image %s: %w", name, err)
		}
		return open(layout)
	}
	return open(name)
}

// open opens an image that is here.
func open(name string) (*source, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the image %s: there is no such file or folder; it is an OCI layout, an archive of 'docker save' or 'podman save', or a folder with a root file system", name)
	}
	if err != nil {
		return nil, fmt.Errorf("the image: %w", err)
	}
	if info.IsDir() && !isLayout(name) {
		return openFolder(name)
	}
	c, err := image.OpenContainer(name)
	if err != nil {
		return nil, fmt.Errorf("the image %w", err)
	}
	return &source{
		entrypoint: c.Entrypoint, command: c.Default, env: c.Env, dir: c.Dir, user: c.User, stop: c.StopSignal,
		id:     c.ID(),
		unpack: func(ctx context.Context, t *tree.Tree) error { return c.Unpack(t, ctx.Err) },
		close:  c.Close,
	}, nil
}

func isLayout(dir string) bool {
	for _, name := range []string{"oci-layout", "index.json", "manifest.json"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// openFolder opens a folder with the files of a root file system.
func openFolder(name string) (*source, error) {
	t, err := tree.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the image: %w", err)
	}
	defer t.Close()
	id, err := t.Fingerprint()
	if err != nil {
		return nil, fmt.Errorf("the image %s: %w", name, err)
	}
	return &source{
		id: id,
		unpack: func(ctx context.Context, t *tree.Tree) error {
			return image.Unpack(ctx, image.Config{From: image.Dir, Path: name, Log: io.Discard}, t)
		},
		close: func() error { return nil },
	}, nil
}

// fsVersion is that of the file systems in the cache: another one is written
// otherwise, or has other files.
const fsVersion = 1

// Cache is a folder with the file systems of images, under what they are made of.
type Cache struct{ dir string }

// OpenCache opens the cache in a folder, which it makes. Nobody else may be able to
// write there: what is in it is what guests execute.
func OpenCache(dir string) (*Cache, error) {
	if err := privateFolder(dir); err != nil {
		return nil, err
	}
	return &Cache{dir}, nil
}

// privateFolder makes a folder that nobody else can write to, unless there is one.
func privateFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s: it has to be a folder of this user's that nobody else can write to", dir)
	}
	return nil
}

// fileSystem is the path of a file system with an image's files, which is made unless
// it is there. Of several that want the same one, one makes it.
func (c *Cache) fileSystem(ctx context.Context, s *source, say func(string)) (string, error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", fsVersion, os.Geteuid(), s.id))
	name := filepath.Join(c.dir, hex.EncodeToString(sum[:]))
	path := name + ".erofs"
	if _, err := os.Lstat(path); err == nil {
		return path, nil
	}
	lock, err := lockFile(ctx, name+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	defer os.Remove(name + ".lock")           // whoever waits for it finds the file system
	if _, err := os.Lstat(path); err == nil { // another has made it meanwhile
		return path, nil
	}
	say("making a file system of the image, once")
	work := name + ".new"
	if err := os.RemoveAll(work); err != nil { // of one that was killed
		return "", err
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return "", err
	}
	made := filepath.Join(work, "image")
	err = convert(ctx, s, filepath.Join(work, "tree"), made)
	if err == nil {
		err = os.Rename(made, path)
	}
	if err := errors.Join(err, os.RemoveAll(work)); err != nil {
		return "", err
	}
	return path, nil
}

// convert makes a file system of an image.
func convert(ctx context.Context, s *source, dir, to string) (err error) {
	t, err := tree.Make(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := s.unpack(ctx, t); err != nil {
		return err
	}
	if _, err := t.Finish(); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := t.WriteEROFS(f); err != nil {
		return err
	}
	// A machine that is started after a power cut is to find what was written.
	return f.Sync()
}

// lockFile locks a file, which it makes.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		locked := make(chan error, 1)
		go func() { locked <- flock(f) }()
		select {
		case err = <-locked:
		case <-ctx.Done():
			// The goroutine ends with the program, which is about to.
			return nil, ctx.Err()
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		// The one before may have removed it.
		if ours, err := f.Stat(); err == nil {
			if there, err := os.Lstat(path); err == nil && os.SameFile(ours, there) {
				return f, nil
			}
		}
		f.Close()
	}
}

func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}

// variable is the value of a variable in an environment.
func variable(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}
