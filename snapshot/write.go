package snapshot

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// Writer is a snapshot that is being written, beside the place where it will be.
type Writer struct {
	dir   string // where it will be
	temp  string // where it is
	files []*os.File
}

// Create begins a snapshot at a path, where nothing is or an older snapshot, which
// stays until Commit. Only the user may read it: it is all that the guest knows.
func Create(dir string) (*Writer, error) {
	dir = filepath.Clean(dir)
	if err := replaceable(dir); err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".partial-*")
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", dir, unwrap(err))
	}
	return &Writer{dir: dir, temp: temp}, nil
}

// replaceable is an error where something is that is no snapshot.
func replaceable(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", dir, unwrap(err))
	}
	if _, err := os.Lstat(filepath.Join(dir, descriptionFile)); err != nil || !info.IsDir() {
		return fmt.Errorf("snapshot %s: there is something else, which is no snapshot; choose another path", dir)
	}
	return nil
}

// unwrap leaves the path out of an error, which begins with one.
func unwrap(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func (w *Writer) create(name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(w.temp, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		w.files = append(w.files, f)
	}
	return f, err
}

// Write writes the memory of a machine, which is at rest, and its description. When it
// returns, the machine may go on.
func (w *Writer) Write(ram *memory.Guest, description any) error {
	text, err := json.Marshal(description)
	if err != nil {
		return err
	}
	f, err := w.create(memoryFile)
	if err != nil {
		return w.failed(err)
	}
	chunks, err := ram.Save(f)
	if err != nil {
		return w.failed(err)
	}
	var sums []byte
	for _, sum := range chunks {
		sums = binary.LittleEndian.AppendUint32(sums, sum)
	}
	line, err := json.Marshal(header{format, Version, partOf(text), ram.Size(), partOf(sums)})
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		sumsFile: sums, descriptionFile: append(append(line, '\n'), text...),
	} {
		f, err := w.create(name)
		if err != nil {
			return w.failed(err)
		}
		if _, err := f.Write(content); err != nil {
			return w.failed(err)
		}
	}
	return nil
}

func (w *Writer) failed(err error) error {
	hint := ""
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		hint = "; make room, and try again"
	}
	return fmt.Errorf("snapshot %s: %w%s", w.dir, unwrap(err), hint)
}

// Commit puts the snapshot into its place, at once and so that it outlives a crash of
// the host. Whatever happens meanwhile, there is the older one or this one.
func (w *Writer) Commit() error {
	for _, f := range w.files {
		if err := f.Sync(); err != nil {
			return w.failed(err)
		}
	}
	if err := syncFolder(w.temp); err != nil {
		return w.failed(err)
	}
	err := unix.Renameat2(unix.AT_FDCWD, w.temp, unix.AT_FDCWD, w.dir, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		if err := replaceable(w.dir); err != nil {
			return err
		}
		// Close removes the older one, which is at temp then.
		err = unix.Renameat2(unix.AT_FDCWD, w.temp, unix.AT_FDCWD, w.dir, unix.RENAME_EXCHANGE)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(w.dir))
	}
	if err != nil {
		return w.failed(err)
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Close lets go of the files, and removes what has not been committed, or what has been
// replaced.
func (w *Writer) Close() error {
	for _, f := range w.files {
		f.Close()
	}
	w.files = nil
	return os.RemoveAll(w.temp)
}
