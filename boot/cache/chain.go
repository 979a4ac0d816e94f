package cache

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openFolder opens a folder that nobody but this user and root can put another in
// the place of, and makes it where it is missing. It goes there step by step, by
// descriptors: every folder on the way is root's or this user's, and others may
// not write to it, unless it is one where each can remove only their own, as /tmp.
// So are the links on the way. The last folder is this user's and no link.
func openFolder(path string) (int, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return -1, err
	}
	w := walk{rest: strings.Split(path, "/")}
	if err := w.root(); err != nil {
		return -1, err
	}
	for len(w.rest) > 0 {
		if err := w.step(); err != nil {
			unix.Close(w.at)
			return -1, fmt.Errorf("%s: %w", w.path, err)
		}
	}
	fd, err := unix.Openat(w.at, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	unix.Close(w.at)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || !trusted(&st) {
		unix.Close(fd)
		return -1, errors.Join(errOthers, err)
	}
	return fd, nil
}

// errOthers says why a folder is not used.
var errOthers = errors.New("not used, for others than this user can write to it")

// walk is a way to a folder.
type walk struct {
	at    int      // the folder that it has come to
	path  string   // of that, or what was tried last
	rest  []string // names to go
	links int
}

// maxLinks is how many links a way may have, as in Linux.
const maxLinks = 40

func (w *walk) root() (err error) {
	w.path = "/"
	w.at, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return err
}

// step goes on by a name.
func (w *walk) step() error {
	name := w.rest[0]
	w.rest = w.rest[1:]
	if name == "" || name == "." {
		return nil
	}
	w.path = filepath.Join(w.path, name)
	fd, err := openOrMake(w.at, name)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	switch {
	case st.Uid != 0 && int(st.Uid) != unix.Geteuid():
		err = fmt.Errorf("not used, for it belongs to user %d", st.Uid)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0:
		err = errOthers
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		defer unix.Close(fd)
		return w.follow(fd)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		err = unix.ENOTDIR
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	unix.Close(w.at)
	w.at = fd
	return nil
}

// follow goes where a link leads. The last name is no link.
func (w *walk) follow(link int) error {
	if len(w.rest) == 0 {
		return errors.New("not used, for it is a link")
	}
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link, "", target)
	if err != nil {
		return err
	}
	w.rest = append(strings.Split(string(target[:n]), "/"), w.rest...)
	w.path = filepath.Dir(w.path)
	if target[0] == '/' {
		unix.Close(w.at)
		return w.root()
	}
	return nil
}

func openOrMake(in int, name string) (int, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(in, name, flags, 0)
	if err != unix.ENOENT {
		return fd, err
	}
	if err := unix.Mkdirat(in, name, 0o700); err != nil && err != unix.EEXIST {
		return -1, err
	}
	return unix.Openat(in, name, flags, 0)
}
