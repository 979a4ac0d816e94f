package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"vmm/boot"
	"vmm/disk"
)

// Guests that misuse their devices hurt none but themselves, and find the devices
// working once they have reset them.
func TestHostileGuests(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		guest string
		edit  func(*Config)
	}{
		{"selfindirect", func(c *Config) { c.RNG, c.Transport = true, TransportMMIO }},
		{"inflight", func(c *Config) {
			c.Transport = TransportMMIO
			c.Disks = []Disk{{Config: disk.Config{Path: image}}}
		}},
		{"bar", func(c *Config) {
			c.Disks = []Disk{{Config: disk.Config{Path: image}}}
			c.RNG = true
		}},
	} {
		kernel := buildGuest(t, tt.guest+".S")
		for _, exits := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, doorbells as exits %v", tt.guest, exits), func(t *testing.T) {
				m := newMachine(t, nil, func(c *Config) {
					c.Kernel, c.Protocol, c.DebugExit, c.DoorbellExits = kernel, boot.PVH, true, exits
					tt.edit(c)
				})
				runGuest(t, m)
			})
		}
	}
}
