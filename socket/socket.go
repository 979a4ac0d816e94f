// Package socket makes the unix sockets that other programs reach a machine by.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxPath is the room for a path in struct sockaddr_un, less the zero behind it.
// unix(7).
const maxPath = 107

// mode lets the user who runs vmm connect, and nobody else. Connecting takes
// the right to write. unix(7).
const mode = 0o600

// Listener listens at a path. Whoever may connect, it accepts only connections of
// the user who runs vmm, and of root: what is behind the socket owns the guest.
type Listener struct {
	*net.UnixListener
	user uint32 // of vmm
}

// Listen listens at a path; Close removes the socket. One that was left behind
// there by a vmm that was killed is replaced; one that somebody listens at is
// not, nor is any other file.
func Listen(path string) (*Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("%s: the path of a socket has at most %d bytes; choose a shorter one", path, maxPath)
	}
	l, err := bind(path)
	if errors.Is(err, unix.EADDRINUSE) {
		c, dialErr := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
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
		l, err = bind(path)
	}
	if err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) {
			err = errno // the rest says nothing that a user could use
		}
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w; where the file system has no sockets, choose a path on another, such as %s", err, os.TempDir())
		}
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	return &Listener{l, uint32(os.Geteuid())}, nil
}

// bind makes the socket, with its mode from the first moment: bind(2) gives the
// file the mode that the socket has, less the umask.
func bind(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if controlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), mode) }); controlErr != nil {
			return controlErr
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) { return l.AcceptUnix() }

// AcceptUnix waits for a connection of a user who may have one. Others are
// closed.
func (l *Listener) AcceptUnix() (*net.UnixConn, error) {
	for {
		c, err := l.UnixListener.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(c); err == nil && (uid == 0 || uid == l.user) {
			return c, nil
		}
		c.Close()
	}
}

// peer is the user at the other end of a connection. unix(7), SO_PEERCRED.
func peer(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(controlErr, err); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
