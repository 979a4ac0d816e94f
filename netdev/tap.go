package netdev

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Tap is a tap device: a network interface of the host whose cable ends here. See
// Documentation/networking/tuntap.rst of Linux.
type Tap struct {
	name     string
	fds      []int
	attached int // queues that take part
	mtu      int
}

// OpenTap attaches to the tap device name with a number of queues. With create, the
// device is made if it does not exist, which takes rights, and goes when it is
// closed: it is down, and connected to nothing.
func OpenTap(name string, queues int, create bool) (*Tap, error) {
	if len(name) == 0 || len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("tap %q: a name has 1 to %d characters", name, unix.IFNAMSIZ-1)
	}
	if !create {
		// TUNSETIFF would make it.
		if _, err := interfaceMTU(name); errors.Is(err, unix.ENODEV) {
			return nil, fmt.Errorf("tap %s does not exist; make it, as root: %s; or have vmm make one that is down and connected to nothing: tap=%s,create",
				name, addTap(name, "user $USER ", queues > 1), name)
		}
	}
	t := &Tap{name: name, attached: queues}
	for range queues {
		if err := t.open(queues > 1); err != nil {
			t.Close()
			return nil, fmt.Errorf("tap %s: %w", name, err)
		}
	}
	var err error
	if t.mtu, err = interfaceMTU(name); err != nil {
		t.Close()
		return nil, fmt.Errorf("tap %s: %w", name, err)
	}
	return t, nil
}

// open adds a queue.
func (t *Tap) open(multi bool) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w; load the module: modprobe tun", err)
	}
	t.fds = append(t.fds, fd)
	request, err := unix.NewIfreq(t.name)
	if err != nil {
		return err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	request.SetUint16(flags)
	switch err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err {
	case nil:
	case unix.EPERM:
		return fmt.Errorf("%w; as root, make it for this user: %s", err, addTap(t.name, "user $USER ", multi))
	case unix.EBUSY:
		return fmt.Errorf("%w: another program uses it", err)
	case unix.EINVAL:
		return fmt.Errorf("%w: it was made with other flags; make it anew: %s", err, addTap(t.name, "", multi))
	default:
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, HeaderSize); err != nil {
		return fmt.Errorf("TUNSETVNETHDRSZ: %w", err)
	}
	return nil
}

// addTap is the command that makes a tap device.
func addTap(name, user string, multi bool) string {
	command := fmt.Sprintf("ip tuntap add %s mode tap %svnet_hdr", name, user)
	if multi {
		command += " multi_queue"
	}
	return command
}

// interfaceMTU is the MTU of an interface of the host, in bytes.
func interfaceMTU(name string) (int, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFMTU, request); err != nil {
		return 0, fmt.Errorf("its MTU: %w", err)
	}
	return int(request.Uint32()), nil
}

// FDs are the file descriptors of the queues. They do not block.
func (t *Tap) FDs() []int { return t.fds }

// MTU is that of the interface, in bytes.
func (t *Tap) MTU() int { return t.mtu }

// SetOffload says which unfinished frames may be read: the flags TUN_F_CSUM and
// so on.
func (t *Tap) SetOffload(flags int) error {
	if err := unix.IoctlSetInt(t.fds[0], unix.TUNSETOFFLOAD, flags); err != nil {
		return fmt.Errorf("tap %s: TUNSETOFFLOAD: %w", t.name, err)
	}
	return nil
}

// SetQueues has the first n queues take part, and the others not: the host
// spreads connections over those that do.
func (t *Tap) SetQueues(n int) error {
	for ; t.attached < n; t.attached++ {
		if err := t.setQueue(t.attached, unix.IFF_ATTACH_QUEUE); err != nil {
			return err
		}
	}
	for ; t.attached > n; t.attached-- {
		if err := t.setQueue(t.attached-1, unix.IFF_DETACH_QUEUE); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tap) setQueue(i int, flag uint16) error {
	request, err := unix.NewIfreq(t.name)
	if err != nil {
		return err
	}
	request.SetUint16(flag)
	if err := unix.IoctlIfreq(t.fds[i], unix.TUNSETQUEUE, request); err != nil {
		return fmt.Errorf("tap %s: TUNSETQUEUE: %w", t.name, err)
	}
	return nil
}

// Close detaches from the device, which disappears unless it was made to stay.
func (t *Tap) Close() error {
	var errs []error
	for _, fd := range t.fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
