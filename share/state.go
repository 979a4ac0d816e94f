package share

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Names are the steps from the shared folder down to the file, by the name that it has
// now; none for the folder itself. It fails with ESTALE for a file that has none.
func (n *Node) Names() ([]string, error) {
	root, err := os.Readlink(n.folder.root.path())
	if err != nil {
		return nil, unix.ESTALE
	}
	path, err := os.Readlink(n.path())
	if err != nil {
		return nil, unix.ESTALE
	}
	if path == root {
		return nil, nil
	}
	rest, below := strings.CutPrefix(path, strings.TrimSuffix(root, "/")+"/")
	if !below {
		return nil, unix.ESTALE
	}
	return strings.Split(rest, "/"), nil
}

// Flags are the flags that the file was opened with, as far as they are for reading and
// writing: those that Open takes, without O_TRUNC.
func (f *File) Flags() (int, error) {
	flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
	return flags & openFlags &^ unix.O_TRUNC, err
}
