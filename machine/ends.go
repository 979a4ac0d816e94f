package machine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vmm/devices/virtio/vsock"
	"vmm/disk"
	"vmm/netdev"
)

// Ends are the host's ends of the devices of a machine that is restored: what stands
// behind the disks, in their order, and behind the cards; the shares, by tag; and the
// socket of the vsock device. What the guest sees of a device stays as it was: what is
// left out of an entry is as it was saved, and what differs is an error.
//
// The paths in a snapshot are what somebody else has written, perhaps. None is used
// unless AsSaved says so.
type Ends struct {
	Disks  []Disk
	Nets   []Net
	Shares []Share
	Vsock  *vsock.Config
	// AsSaved takes the ends that are not given from the snapshot.
	AsSaved bool
	// Changed accepts images that are not what they were.
	Changed bool
}

// Config is the configuration of the machine, restored with these ends.
func (s *Saved) Config(e Ends) (Config, error) {
	c := Config{
		Memory: s.Spec.Memory, CPUs: s.Spec.CPUs, Transport: s.Spec.Transport, Balloon: s.Spec.Balloon,
		VirtioConsole: s.Spec.VirtioConsole, RNG: s.Spec.RNG, DebugExit: s.Spec.DebugExit,
		DebugExitPort: s.Spec.DebugExitPort, BootTimer: s.Spec.BootTimer, Keyboard: s.Spec.Keyboard,
		Cmdline: &s.Spec.Cmdline, Saved: s,
	}
	var err error
	if c.Disks, err = e.disks(s.Spec.Disks); err != nil {
		return c, err
	}
	if c.Nets, err = e.nets(s.Spec.Nets); err != nil {
		return c, err
	}
	if c.Shares, err = e.shares(s.Spec.Shares); err != nil {
		return c, err
	}
	c.Vsock, err = e.vsock(s.Spec.Vsock)
	return c, err
}

// missing is the error about a device without its end.
func missing(kind, what, flag string) error {
	return fmt.Errorf("the machine has %s %s: say with %s what is to stand behind it, or with --as-saved that what the snapshot names shall", kind, what, flag)
}

// tooMany is the error about ends without a device.
func tooMany(kind string, given, saved int) error {
	return fmt.Errorf("%d %s: the machine has %d", given, kind, saved)
}

func (e *Ends) disks(saved []SavedDisk) ([]Disk, error) {
	if len(e.Disks) > len(saved) {
		return nil, tooMany("disks", len(e.Disks), len(saved))
	}
	var all []Disk
	for i, s := range saved {
		d := Disk{Config: disk.Config{Path: s.Path, Direct: s.Direct}, IOPS: s.IOPS, Bandwidth: s.Bandwidth}
		switch {
		case i < len(e.Disks):
			d = e.Disks[i]
		case !e.AsSaved:
			return nil, missing("a disk,", s.Path, "--disk")
		}
		switch {
		case d.ReadOnly && !s.ReadOnly:
			return nil, fmt.Errorf("disk %s: the guest may write to it, and goes on so; leave out \"ro\"", d.Path)
		case d.Serial != "" && d.Serial != s.Serial:
			return nil, fmt.Errorf("disk %s: the guest knows it by the serial number %q; leave out \"serial\"", d.Path, s.Serial)
		case d.Queues != 0 && max(d.Queues, 1) != max(s.Queues, 1):
			return nil, fmt.Errorf("disk %s: the guest uses %d queues; leave out \"queues\"", d.Path, max(s.Queues, 1))
		case d.Format != "" && d.Format != s.Format:
			return nil, fmt.Errorf("disk %s: the image was %s when the machine was saved; leave out \"format\"", d.Path, s.Format)
		}
		d.ReadOnly, d.Serial, d.Queues, d.Format = s.ReadOnly, s.Serial, s.Queues, s.Format
		if err := e.unchanged(d.Path, s.Image); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// unchanged is an error when an image is not what it was: the guest's file system is
// partly in its memory, and would destroy what it finds.
func (e *Ends) unchanged(path string, saved ImageState) error {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	defer f.Close()
	now, err := imageState(f)
	switch {
	case err != nil:
		return fmt.Errorf("disk: %w", err)
	case now.Size != saved.Size:
		return fmt.Errorf("disk %s: it has %d bytes, and had %d when the machine was saved; use the image that belongs to the snapshot", path, now.Size, saved.Size)
	case !e.Changed && !now.Modified.Equal(saved.Modified):
		return fmt.Errorf("disk %s: it has changed since the machine was saved, whose guest would destroy what it finds there; use the image as it was then, or --changed-disks if it is that", path)
	}
	return nil
}

func (e *Ends) nets(saved []SavedNet) ([]Net, error) {
	if len(e.Nets) > len(saved) {
		return nil, tooMany("network cards", len(e.Nets), len(saved))
	}
	var all []Net
	for i, s := range saved {
		if len(s.MAC) != 6 {
			return nil, fmt.Errorf("network card %d: an address of %d bytes", i, len(s.MAC))
		}
		if s.Queues > netdev.MaxQueues {
			return nil, fmt.Errorf("network card %d: %d pairs of queues are more than %d", i, s.Queues, netdev.MaxQueues)
		}
		n := Net{Tap: s.Tap, User: s.Tap == "", Queues: s.Queues}
		switch {
		case i < len(e.Nets):
			n = e.Nets[i]
		case !e.AsSaved:
			return nil, missing("a network card,", s.MAC.String(), "--net")
		}
		switch {
		case n.MAC != nil && !bytes.Equal(n.MAC, s.MAC):
			return nil, fmt.Errorf("network card %d: the guest knows its address, %v, and goes on with it; leave out \"mac\"", i, s.MAC)
		case n.MTU != 0 && n.MTU != s.MTU:
			return nil, fmt.Errorf("network card %d: the guest has been told its MTU, %d; leave out \"mtu\"", i, s.MTU)
		case n.Queues != 0 && max(n.Queues, 1) != max(s.Queues, 1), n.User && s.Queues > 1:
			return nil, fmt.Errorf("network card %d: the guest uses %d pairs of queues; connect it to a tap device, and leave out \"queues\"", i, s.Queues)
		}
		n.MAC, n.MTU, n.Queues = s.MAC, s.MTU, s.Queues
		all = append(all, n)
	}
	return all, nil
}

func (e *Ends) shares(saved []Share) ([]Share, error) {
	var all []Share
	for _, s := range saved {
		i := slices.IndexFunc(e.Shares, func(g Share) bool { return g.Tag == s.Tag })
		switch {
		case i >= 0 && e.Shares[i].ReadOnly && !s.ReadOnly:
			// The guest finds out, as on a file system that has become so.
			s.ReadOnly = true
			s.Path = e.Shares[i].Path
		case i >= 0:
			s.Path = e.Shares[i].Path
		case !e.AsSaved:
			return nil, missing("a share,", s.Tag, "--share")
		}
		all = append(all, s)
	}
	var tags []string
	for _, s := range saved {
		tags = append(tags, s.Tag)
	}
	for _, g := range e.Shares {
		if !slices.Contains(tags, g.Tag) {
			return nil, fmt.Errorf("share %s: the machine has none with the tag %q: %s", g.Path, g.Tag, strings.Join(tags, ", "))
		}
	}
	return all, nil
}

func (e *Ends) vsock(saved *vsock.Config) (*vsock.Config, error) {
	switch {
	case e.Vsock != nil && saved == nil:
		return nil, errors.New("vsock: the machine has no such device")
	case e.Vsock != nil: // it may have another CID: the guest is told
		return e.Vsock, nil
	case saved != nil && !e.AsSaved:
		return nil, missing("a vsock device,", saved.Path, "--vsock")
	}
	return saved, nil
}
