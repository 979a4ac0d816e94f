package machine

import (
	"fmt"
	"net"
	"os"
	"time"

	"vmm/devices/virtio/balloon"
	"vmm/devices/virtio/vsock"
	"vmm/disk"
)

// Saved is a machine as a snapshot describes it, without its memory.
type Saved struct {
	Time time.Time `json:"time"` // of the host, when it was saved
	// Spec is what the machine consists of.
	Spec Spec `json:"machine"`
	// State is what has become of it.
	State SavedState `json:"state"`
}

// Spec is what a machine consists of, as its guest sees it, with the host's ends of its
// devices, for people and for [Ends].
type Spec struct {
	Kernel        string          `json:"kernel"` // path of the image it was booted from
	Cmdline       string          `json:"cmdline"`
	Linux         bool            `json:"linux"`  // the kernel is known to be Linux
	Memory        uint64          `json:"memory"` // bytes
	CPUs          int             `json:"cpus"`
	Transport     Transport       `json:"transport"`
	Disks         []SavedDisk     `json:"disks,omitempty"`
	Nets          []SavedNet      `json:"nets,omitempty"`
	Shares        []Share         `json:"shares,omitempty"`
	Vsock         *vsock.Config   `json:"vsock,omitempty"`
	Balloon       *balloon.Config `json:"balloon,omitempty"`
	VirtioConsole bool            `json:"virtio_console,omitempty"`
	RNG           bool            `json:"rng,omitempty"`
	DebugExit     bool            `json:"debug_exit,omitempty"`
	DebugExitPort uint16          `json:"debug_exit_port,omitempty"`
	BootTimer     bool            `json:"boot_timer,omitempty"`
	Keyboard      bool            `json:"keyboard,omitempty"`
}

// SavedDisk is a disk, with what its image was like when the machine was saved.
type SavedDisk struct {
	Path      string      `json:"path"`
	Format    disk.Format `json:"format"`
	ReadOnly  bool        `json:"read_only,omitempty"`
	Serial    string      `json:"serial,omitempty"`
	Queues    int         `json:"queues,omitempty"`
	Direct    bool        `json:"direct,omitempty"`
	IOPS      int         `json:"iops,omitempty"`
	Bandwidth int         `json:"bandwidth,omitempty"`
	Image     ImageState  `json:"image"`
}

// ImageState tells whether an image has changed. Of a block device only the size is
// known.
type ImageState struct {
	Size     int64     `json:"size"` // of the file, in bytes
	Modified time.Time `json:"modified,omitzero"`
}

// SavedNet is a network card.
type SavedNet struct {
	Tap    string           `json:"tap,omitempty"` // "" for a network of its own
	MAC    net.HardwareAddr `json:"mac"`
	Queues int              `json:"queues,omitempty"`
	MTU    int              `json:"mtu,omitempty"`
}

// imageState looks at an image.
func imageState(f *os.File) (ImageState, error) {
	info, err := f.Stat()
	if err != nil {
		return ImageState{}, err
	}
	if !info.Mode().IsRegular() {
		return ImageState{}, nil
	}
	return ImageState{info.Size(), info.ModTime().UTC()}, nil
}

// spec is what a machine of this configuration consists of.
// images are those of the disks.
func (c *Config) spec(cmdline string, linux bool, images []*os.File) (Spec, error) {
	s := Spec{
		Kernel: c.Kernel, Cmdline: cmdline, Linux: linux, Memory: c.Memory, CPUs: c.CPUs, Transport: c.Transport,
		Shares: c.Shares, Vsock: c.Vsock, Balloon: c.Balloon, VirtioConsole: c.VirtioConsole, RNG: c.RNG,
		DebugExit: c.DebugExit, DebugExitPort: c.DebugExitPort, BootTimer: c.BootTimer, Keyboard: c.Keyboard,
	}
	for i, d := range c.Disks {
		image, err := imageState(images[i])
		if err != nil {
			return s, fmt.Errorf("disk: %w", err)
		}
		format := d.Format
		if format == "" {
			format = disk.FormatRaw
		}
		s.Disks = append(s.Disks, SavedDisk{d.Path, format, d.ReadOnly, d.Serial, d.Queues, d.Direct, d.IOPS, d.Bandwidth, image})
	}
	for _, n := range c.Nets {
		s.Nets = append(s.Nets, SavedNet{n.Tap, n.MAC, n.Queues, n.MTU})
	}
	return s, nil
}
