package netdev

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vmm/sandbox"
	"vmm/tools"
)

// Forward leads connections to an address of the host to a port of the guest.
type Forward struct {
	UDP  bool
	Host netip.AddrPort
	Port uint16
}

// String is what ParseForward reads.
func (f Forward) String() string {
	protocol := "tcp"
	if f.UDP {
		protocol = "udp"
	}
	return fmt.Sprintf("%s:%v-:%d", protocol, f.Host, f.Port)
}

// UserMTU makes frames of a user's network as large as they can be, in bytes:
// its wire is memory, and what counts is the cost of a frame.
const UserMTU = 65520

// UserConfig is what a user's network lets through.
type UserConfig struct {
	// Forwards lead from the host into the guest.
	Forwards []Forward
	// Loopback are the ports of the host itself that the guest reaches, at
	// 10.0.2.4 and at the addresses of the host's interfaces. Without any, the
	// host is closed to the guest.
	Loopback []PortRange
	// Allow are addresses that the guest reaches though they are private, or of a
	// link.
	Allow []netip.Prefix
	// Sandbox says how the process is caged; "" for sandbox.Auto.
	Sandbox sandbox.Mode
}

// What is in front of an argument of UserCommand that is no forward.
const (
	loopbackPrefix = "loopback:"
	allowPrefix    = "allow:"
	sandboxPrefix  = "sandbox:"
)

// args are the arguments of UserCommand.
func (c UserConfig) args() []string {
	var args []string
	for _, f := range c.Forwards {
		args = append(args, f.String())
	}
	for _, r := range c.Loopback {
		args = append(args, loopbackPrefix+r.String())
	}
	for _, p := range c.Allow {
		args = append(args, allowPrefix+p.String())
	}
	if c.Sandbox != "" {
		args = append(args, sandboxPrefix+string(c.Sandbox))
	}
	return args
}

// ParseUser reads the arguments of UserCommand.
func ParseUser(args []string) (UserConfig, error) {
	var c UserConfig
	for _, arg := range args {
		if ports, ok := strings.CutPrefix(arg, loopbackPrefix); ok {
			r, err := ParsePortRange(ports)
			if err != nil {
				return c, err
			}
			c.Loopback = append(c.Loopback, r)
			continue
		}
		if addresses, ok := strings.CutPrefix(arg, allowPrefix); ok {
			p, err := ParseAddresses(addresses)
			if err != nil {
				return c, err
			}
			c.Allow = append(c.Allow, p)
			continue
		}
		if mode, ok := strings.CutPrefix(arg, sandboxPrefix); ok {
			c.Sandbox = sandbox.Mode(mode)
			continue
		}
		f, err := ParseForward(arg)
		if err != nil {
			return c, err
		}
		c.Forwards = append(c.Forwards, f)
	}
	return c, nil
}

// How vmm-tools is started to be a user's network: with UserCommand and a
// UserConfig as arguments, its end of the wire, and a pipe on which it says
// UserReady, or what is wrong.
const (
	UserCommand = "net"
	UserWireFD  = 3
	UserReadyFD = 4
	UserReady   = "ready"
)

// UserOffloadSize is the size, in bytes, of a message on the wire that is no
// frame: the flags of SetOffload. A guest can send one, too, to its own harm.
const UserOffloadSize = 1

// User is a network of the guest's own: a process that makes the guest's
// connections, with the rights of the user. It ends when the wire to it is
// closed, however vmm does. See package usernet.
type User struct {
	fd      int // the guest's end of the wire
	process *exec.Cmd
}

// NewUser starts a network for a guest.
func NewUser(c UserConfig) (*User, error) {
	path, err := tools.Path()
	if err != nil {
		return nil, fmt.Errorf("user network: %w", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("user network: socketpair: %w", err)
	}
	for _, fd := range fds {
		// As many frames as the host allows; the default holds three.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20)
	}
	wire := os.NewFile(uintptr(fds[1]), "wire")
	defer wire.Close()
	u := &User{fd: fds[0], process: exec.Command(path, append([]string{UserCommand}, c.args()...)...)}
	if err := u.start(wire); err != nil {
		unix.Close(u.fd)
		return nil, fmt.Errorf("user network: %w", err)
	}
	return u, nil
}

// start starts the process, and waits until it is ready.
func (u *User) start(wire *os.File) error {
	said, ready, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	u.process.ExtraFiles = []*os.File{wire, ready} // UserWireFD, UserReadyFD
	u.process.Stderr = os.Stderr
	// Ctrl-C is for vmm to deal with.
	u.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = u.process.Start()
	ready.Close()
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(said)
	if err == nil && string(answer) == UserReady {
		return nil
	}
	ended := u.process.Wait()
	if len(answer) > 0 {
		return errors.New(string(answer))
	}
	return errors.Join(err, ended)
}

// FDs is the file descriptor of the one queue. It does not block.
func (u *User) FDs() []int { return []int{u.fd} }

// MTU is the largest frame less its header, in bytes.
func (u *User) MTU() int { return UserMTU }

// SetOffload says whether frames may be read whose checksums are left to do: the
// flag TUN_F_CSUM. Of the others there is no use, for frames are large.
func (u *User) SetOffload(flags int) error {
	if _, err := unix.Write(u.fd, []byte{byte(flags)}); err != nil {
		return fmt.Errorf("user network: offload: %w", err)
	}
	return nil
}

// SetQueues has nothing to do: there is one.
func (u *User) SetQueues(int) error { return nil }

// Close ends the network and its connections.
func (u *User) Close() error {
	err := unix.Close(u.fd)
	// It ends by itself, at once, unless something is very wrong.
	late := time.AfterFunc(closeTimeout, func() { _ = u.process.Process.Kill() })
	defer late.Stop()
	return errors.Join(err, u.process.Wait())
}

// closeTimeout is how long a network may take to end.
const closeTimeout = time.Second

// ParseAddresses reads addresses of IPv4 as "192.168.0.0/16", or one as "10.1.2.3".
func ParseAddresses(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is4() {
		return netip.PrefixFrom(ip, 32), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%q are not addresses, such as 192.168.1.0/24 or 10.1.2.3", s)
	}
	return p, nil
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
