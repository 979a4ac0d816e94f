// Package socket makes the unix sockets that other programs reach a machine by.
package socket

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// maxPath is the room for a path in struct sockaddr_un, less the zero behind it.
// unix(7).
const maxPath = 107

// Listen listens at a path; Close removes the socket. One that was left behind
// there by a vmm that was killed is replaced; one that somebody listens at is
// not, nor is any other file.
func Listen(path string) (*net.UnixListener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("%s: the path of a socket has at most %d bytes; choose a shorter one", path, maxPath)
	}
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	l, err := net.ListenUnix("unix", addr)
	if errors.Is(err, unix.EADDRINUSE) {
		c, dialErr := net.DialUnix("unix", nil, addr)
		if dialErr == nil {
			c.Close()
			return nil, fmt.Errorf("%s: a program listens there already; choose another path", path)
		}
		info, statErr := os.Lstat(path)
		if statErr != nil || info.Mode().Type() != os.ModeSocket || !errors.Is(dialErr, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("%s: not a socket; choose another path", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		l, err = net.ListenUnix("unix", addr)
	}
	if err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) {
			err = errno // the rest says nothing that a user could use
		}
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	return l, nil
}
