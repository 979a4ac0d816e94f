package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// store is where the files lie that a container image consists of.
type store interface {
	has(name string) bool
	// open opens a file of some bytes.
	open(name string) (io.ReadCloser, int64, error)
	io.Closer
}

func openStore(name string) (store, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		root, err := os.OpenRoot(name)
		return folderStore{root}, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return openArchive(name)
}

// folderStore is a folder. A link in it leads nowhere else.
type folderStore struct{ root *os.Root }

func (f folderStore) has(name string) bool {
	_, err := f.root.Stat(name)
	return err == nil
}

func (f folderStore) open(name string) (io.ReadCloser, int64, error) {
	// A FIFO in its place would wait for a writer.
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

func (f folderStore) Close() error { return f.root.Close() }

// archiveStore is a tar archive, not compressed.
type archiveStore struct {
	file  *os.File
	files map[string]member
}

// member is a file of an archive, or a link to one.
type member struct {
	at, size int64
	link     string
}

// maxMembers is how many files the archive of an image may have.
const maxMembers = 10_000

func openArchive(name string) (*archiveStore, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a := &archiveStore{file: f, files: map[string]member{}}
	if err := a.list(); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

func (a *archiveStore) list() error {
	r := tar.NewReader(a.file)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean("/" + h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeReg:
			// The reader has read the header, and nothing more of the file.
			at, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.files[name] = member{at: at, size: h.Size}
		case tar.TypeLink:
			a.files[name] = member{link: path.Clean("/" + h.Linkname)[1:]}
		case tar.TypeSymlink:
			a.files[name] = member{link: path.Join("/", path.Dir(name), h.Linkname)[1:]}
		}
		if len(a.files) > maxMembers {
			return fmt.Errorf("it has more than %d files", maxMembers)
		}
	}
}

func (a *archiveStore) has(name string) bool {
	_, ok := a.files[name]
	return ok
}

// maxLinks is how many links lead from one to the next.
const maxLinks = 10

func (a *archiveStore) open(name string) (io.ReadCloser, int64, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	for range maxLinks {
		m, ok := a.files[name]
		if !ok {
			return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if m.link == "" {
			return io.NopCloser(io.NewSectionReader(a.file, m.at, m.size)), m.size, nil
		}
		name = m.link
	}
	return nil, 0, fmt.Errorf("%s: too many links", name)
}

func (a *archiveStore) Close() error { return a.file.Close() }
