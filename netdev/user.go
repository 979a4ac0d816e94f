package netdev

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Forward leads connections to an address of the host to a port of the guest.
type Forward struct {
	UDP  bool
	Host netip.AddrPort
	Port uint16
}

// User is a network of the guest's own, in this process: the guest's
// connections are made by it, as a program of the user's.
type User struct {
	fd      int // the guest's end
	wire    *wire
	gateway *gateway
}

// NewUser starts a network for a guest.
func NewUser(forwards []Forward) (*User, error) {
	// The libraries log each connection that fails, of which a guest can make
	// as many as it likes.
	logrus.SetOutput(io.Discard)
	for _, f := range forwards {
		// The library would find out too, but in other words.
		if err := available(f); err != nil {
			return nil, err
		}
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("user network: socketpair: %w", err)
	}
	for _, fd := range fds {
		// As many frames as the host allows; the default holds three.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20)
	}
	file := os.NewFile(uintptr(fds[1]), "wire")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		unix.Close(fds[0])
		return nil, fmt.Errorf("user network: %w", err)
	}
	u := &User{fd: fds[0]}
	if u.wire, err = newWire(conn.(*net.UnixConn)); err != nil {
		return nil, errors.Join(fmt.Errorf("user network: %w", err), conn.Close(), unix.Close(u.fd))
	}
	if u.gateway, err = newGateway(u.wire, forwards); err != nil {
		return nil, errors.Join(fmt.Errorf("user network: %w", err), u.wire.Close(), unix.Close(u.fd))
	}
	return u, nil
}

// available reports whether an address can be listened at.
func available(f Forward) error {
	var err error
	if f.UDP {
		var c net.PacketConn
		if c, err = net.ListenPacket("udp", f.Host.String()); err == nil {
			return c.Close()
		}
	} else {
		var l net.Listener
		if l, err = net.Listen("tcp", f.Host.String()); err == nil {
			return l.Close()
		}
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("forward from %s: %w; choose another address or port", f.Host, err)
}

// FDs is the file descriptor of the one queue. It does not block.
func (u *User) FDs() []int { return []int{u.fd} }

// MTU is the largest frame less its header, in bytes.
func (u *User) MTU() int { return userMTU }

// SetOffload says whether frames may be read whose checksums are left to do: the
// flag TUN_F_CSUM. Of the others there is no use, for frames are large.
func (u *User) SetOffload(flags int) error {
	u.wire.partial.Store(flags&unix.TUN_F_CSUM != 0)
	return nil
}

// SetQueues has nothing to do: there is one.
func (u *User) SetQueues(int) error { return nil }

// Close ends the network and its connections.
func (u *User) Close() error {
	err := errors.Join(u.wire.Close(), unix.Close(u.fd))
	u.gateway.close()
	return err
}

// ParseForward reads a forward as "tcp:127.0.0.1:8080-:80".
func ParseForward(s string) (Forward, error) {
	bad := func() (Forward, error) {
		return Forward{}, fmt.Errorf("%q is not a forward, such as tcp:127.0.0.1:8080-:80", s)
	}
	protocol, rest, ok := strings.Cut(s, ":")
	if !ok || !slices.Contains([]string{"tcp", "udp"}, protocol) {
		return bad()
	}
	host, guest, ok := strings.Cut(rest, "-:")
	if !ok {
		return bad()
	}
	if strings.HasPrefix(host, ":") { // no address: the loopback, to be safe
		host = "127.0.0.1" + host
	}
	at, err := netip.ParseAddrPort(host)
	if err != nil {
		return bad()
	}
	var port uint16
	if _, err := fmt.Sscanf(guest, "%d", &port); err != nil || fmt.Sprint(port) != guest || port == 0 {
		return bad()
	}
	return Forward{UDP: protocol == "udp", Host: at, Port: port}, nil
}
