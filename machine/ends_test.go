package machine

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmm/devices/virtio/vsock"
	"vmm/disk"
)

// What stands behind the devices of a restored machine: as given, as saved, or refused.
func TestEnds(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	state, err := imageState(f)
	if err != nil {
		t.Fatal(err)
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	saved := func() Spec {
		return Spec{
			Memory: 64 << 20, CPUs: 1, Transport: TransportPCI,
			Disks:  []SavedDisk{{Path: image, Format: disk.FormatRaw, Serial: "one", Queues: 2, Image: state}},
			Nets:   []SavedNet{{Tap: "tap0", MAC: mac, Queues: 1}},
			Shares: []Share{{Path: "/srv", Tag: "srv"}},
			Vsock:  &vsock.Config{CID: 3, Path: "/run/vsock"},
		}
	}
	given := func() Ends {
		return Ends{
			Disks: []Disk{{Config: disk.Config{Path: image}}}, Nets: []Net{{User: true}},
			Shares: []Share{{Path: "/home", Tag: "srv"}}, Vsock: &vsock.Config{CID: 4, Path: "/run/other"},
		}
	}
	for _, tt := range []struct {
		name string
		edit func(s *Spec, e *Ends)
		want string // of the error
	}{
		{"given", func(*Spec, *Ends) {}, ""},
		{"as saved", func(_ *Spec, e *Ends) { *e = Ends{AsSaved: true} }, ""},
		{"no disk", func(_ *Spec, e *Ends) { e.Disks = nil }, "--disk"},
		{"no card", func(_ *Spec, e *Ends) { e.Nets = nil }, "--net"},
		{"no share", func(_ *Spec, e *Ends) { e.Shares = nil }, "--share"},
		{"no vsock", func(_ *Spec, e *Ends) { e.Vsock = nil }, "--vsock"},
		{"more disks", func(_ *Spec, e *Ends) { e.Disks = append(e.Disks, e.Disks...) }, "the machine has 1"},
		{"more cards", func(_ *Spec, e *Ends) { e.Nets = append(e.Nets, e.Nets...) }, "the machine has 1"},
		{"another share", func(_ *Spec, e *Ends) { e.Shares = append(e.Shares, Share{Path: "/etc", Tag: "etc"}) }, `the tag "etc"`},
		{"a vsock that is not there", func(s *Spec, _ *Ends) { s.Vsock = nil }, "no such device"},
		{"a read-only disk", func(_ *Spec, e *Ends) { e.Disks[0].ReadOnly = true }, `leave out "ro"`},
		{"another serial number", func(_ *Spec, e *Ends) { e.Disks[0].Serial = "two" }, `leave out "serial"`},
		{"other queues", func(_ *Spec, e *Ends) { e.Disks[0].Queues = 3 }, `leave out "queues"`},
		{"another format", func(_ *Spec, e *Ends) { e.Disks[0].Format = disk.FormatQcow2 }, `leave out "format"`},
		{"another address", func(_ *Spec, e *Ends) { e.Nets[0].MAC = net.HardwareAddr{2, 0, 0, 0, 0, 2} }, `leave out "mac"`},
		{"another MTU", func(_ *Spec, e *Ends) { e.Nets[0].MTU = 9000 }, `leave out "mtu"`},
		{"too many queues for a user's network", func(s *Spec, _ *Ends) { s.Nets[0].Queues = 2 }, "a tap device"},
		{"an address of 5 bytes", func(s *Spec, _ *Ends) { s.Nets[0].MAC = mac[:5] }, "5 bytes"},
		{"a million queues", func(s *Spec, _ *Ends) { s.Nets[0].Queues = 1 << 20 }, "pairs of queues"},
		{"an image that has changed", func(s *Spec, _ *Ends) { s.Disks[0].Image.Modified = time.Unix(1, 0) }, "has changed"},
		{"that may have", func(s *Spec, e *Ends) { s.Disks[0].Image.Modified, e.Changed = time.Unix(1, 0), true }, ""},
		{"an image of another size", func(s *Spec, e *Ends) { s.Disks[0].Image.Size, e.Changed = 8192, true }, "8192"},
		{"an image that is not there", func(_ *Spec, e *Ends) { e.Disks[0].Path += "x" }, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, e := &Saved{Spec: saved()}, given()
			tt.edit(&s.Spec, &e)
			c, err := s.Config(e)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("%v; want %q", err, tt.want)
			}
			if err != nil {
				return
			}
			want := Net{User: true, MAC: mac, Queues: 1}
			path, socket := "/home", "/run/other"
			if e.AsSaved {
				want, path, socket = Net{Tap: "tap0", MAC: mac, Queues: 1}, "/srv", "/run/vsock"
			}
			if diff := cmp.Diff([]Net{want}, c.Nets); diff != "" {
				t.Error(diff)
			}
			if d := c.Disks[0]; d.Path != image || d.Serial != "one" || d.Queues != 2 || d.Format != disk.FormatRaw {
				t.Errorf("disk %+v", d)
			}
			if c.Shares[0].Path != path || c.Vsock.Path != socket {
				t.Errorf("share %+v, vsock %+v", c.Shares[0], c.Vsock)
			}
		})
	}
}
