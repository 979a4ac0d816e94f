package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A run has a folder of its own, whose name nobody else can choose or take before:
// MkdirTemp's. What else it makes on the host has that name too: its cgroups, and
// its instance of the kernel's tracing. In the folder there are
//
//	owner  a file with the words below, which the run has locked while it lives
//	run    where the process inside mounts what is its own
//
// So a run finds out what others that were killed have left, and takes nothing else
// for it.
const (
	scratchPrefix = "vmm-bench-"
	ownerFile     = "owner"
	ownerText     = "The folder of a 'vmm bench run', which removes it.\n"
	runDir        = "run"
)

// scratch is the folder of a run.
type scratch struct {
	path  string
	owner *os.File
}

// makeScratch makes the folder of this run.
func makeScratch() (*scratch, error) {
	path, err := os.MkdirTemp("", scratchPrefix) // mode 0700
	if err != nil {
		return nil, err
	}
	s := &scratch{path: path}
	if s.owner, err = os.OpenFile(filepath.Join(path, ownerFile), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err == nil {
		err = unix.Flock(int(s.owner.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		_, err = s.owner.WriteString(ownerText)
	}
	if err == nil {
		err = os.Mkdir(s.run(), 0o700)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), s.remove())
	}
	return s, nil
}

// name is that of all that the run makes.
func (s *scratch) name() string { return filepath.Base(s.path) }

func (s *scratch) run() string { return filepath.Join(s.path, runDir) }

// remove removes the folder, in which nothing is left but what was made here.
func (s *scratch) remove() error {
	var errs []error
	for _, name := range []string{runDir, ownerFile, ""} {
		if err := os.Remove(filepath.Join(s.path, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if s.owner != nil {
		errs = append(errs, s.owner.Close())
	}
	return errors.Join(errs...)
}

// sweep removes the folders of runs that were killed, and returns their names.
func sweep() (names []string) {
	temp, err := os.OpenRoot(os.TempDir())
	if err != nil {
		return nil
	}
	defer temp.Close()
	entries, err := fs.ReadDir(temp.FS(), ".")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), scratchPrefix) && e.IsDir() && sweepOne(temp, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// sweepOne removes a folder if it is that of a run which was killed. Whoever made it
// has to be this user, and to have kept others out.
func sweepOne(temp *os.Root, name string) bool {
	dir, err := temp.OpenRoot(name)
	if err != nil {
		return false
	}
	defer dir.Close()
	info, err := dir.Stat(".")
	if err != nil || info.Mode().Perm() != 0o700 || !isOurs(info) {
		return false
	}
	link, err := dir.Lstat(ownerFile)
	if err != nil || !link.Mode().IsRegular() || !isOurs(link) || link.Size() != int64(len(ownerText)) {
		return false
	}
	owner, err := dir.OpenFile(ownerFile, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer owner.Close()
	text := make([]byte, len(ownerText))
	if _, err := owner.ReadAt(text, 0); err != nil || string(text) != ownerText {
		return false
	}
	if unix.Flock(int(owner.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false // it lives
	}
	names, err := fs.ReadDir(dir.FS(), ".")
	if err != nil || len(names) > 2 || len(names) == 2 && names[1].Name() != runDir {
		return false // somebody keeps something there
	}
	if len(names) == 2 && dir.Remove(runDir) != nil {
		return false
	}
	return dir.Remove(ownerFile) == nil && temp.Remove(name) == nil
}

func isOurs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
