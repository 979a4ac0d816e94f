package snapshot

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// Place is where a snapshot will be, and its files, which are elsewhere until Commit.
// Who makes the place need not be who writes the files: the machine may be in a cage
// where it can open none.
type Place struct {
	dir   string // where it will be
	temp  string // where it is
	files []*os.File
}

// Create makes a place for a snapshot at a path, where nothing is or an older snapshot,
// which stays until Commit. Only the user may read it: it is all that the guest knows.
func Create(dir string) (_ *Place, err error) {
	dir = filepath.Clean(dir)
	if err := replaceable(dir); err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".partial-*")
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", dir, unwrap(err))
	}
	p := &Place{dir: dir, temp: temp}
	for _, name := range names {
		f, err := os.OpenFile(filepath.Join(temp, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			p.Close()
			return nil, p.failed(err)
		}
		p.files = append(p.files, f)
	}
	return p, nil
}

// Files are the files for Write.
func (p *Place) Files() []*os.File { return p.files }

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

// Write writes the memory of a machine, which is at rest, and its description to the
// files of a Place. pagemap is /proc/self/pagemap. When it returns, the machine may go
// on.
func Write(files []*os.File, ram *memory.Guest, pagemap io.ReaderAt, description any) error {
	if len(files) != len(names) {
		return fmt.Errorf("a snapshot is written to %d files, and not %d", len(names), len(files))
	}
	text, err := json.Marshal(description)
	if err != nil {
		return err
	}
	chunks, err := ram.Save(files[0], pagemap)
	if err != nil {
		return failed(err)
	}
	var sums []byte
	for _, sum := range chunks {
		sums = binary.LittleEndian.AppendUint32(sums, sum)
	}
	line, err := json.Marshal(header{format, Version, partOf(text), ram.Size(), partOf(sums)})
	if err != nil {
		return err
	}
	for i, content := range [][]byte{sums, append(append(line, '\n'), text...)} {
		if _, err := files[1+i].Write(content); err != nil {
			return failed(err)
		}
	}
	return nil
}

// failed says what a user can do about a write that failed.
func failed(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w; make room, and try again", unwrap(err))
	}
	return unwrap(err)
}

func (p *Place) failed(err error) error { return fmt.Errorf("snapshot %s: %w", p.dir, failed(err)) }

// Commit puts the snapshot into its place, at once and so that it outlives a crash of
// the host. Whatever happens meanwhile, there is the older one or this one.
func (p *Place) Commit() error {
	for _, f := range p.files {
		if err := f.Sync(); err != nil {
			return p.failed(err)
		}
	}
	if err := syncFolder(p.temp); err != nil {
		return p.failed(err)
	}
	err := unix.Renameat2(unix.AT_FDCWD, p.temp, unix.AT_FDCWD, p.dir, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		if err := replaceable(p.dir); err != nil {
			return err
		}
		// Close removes the older one, which is at temp then.
		err = unix.Renameat2(unix.AT_FDCWD, p.temp, unix.AT_FDCWD, p.dir, unix.RENAME_EXCHANGE)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(p.dir))
	}
	if err != nil {
		return p.failed(err)
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
func (p *Place) Close() error {
	for _, f := range p.files {
		f.Close()
	}
	p.files = nil
	return os.RemoveAll(p.temp)
}
