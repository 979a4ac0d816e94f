package machine

import (
	"context"
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

// The registers of a PCI device answer above 4 GiB, where guests of Cloud Hypervisor
// put them.
func TestRegistersAbove4GiB(t *testing.T) {
	m := newMachine(t, []byte{
		// Map 0x1_4000_0000 with a table at 48 MiB.
		0x0f, 0x20, 0xd8, // mov    %cr3,%rax
		0x8b, 0x00, // mov    (%rax),%eax
		0x25, 0x00, 0xf0, 0xff, 0xff, // and    $0xfffff000,%eax
		0xc7, 0x40, 0x28, 0x03, 0x00, 0x00, 0x03, // movl   $0x3000003,0x28(%rax)
		0xba, 0x00, 0x00, 0x00, 0x03, // mov    $0x3000000,%edx
		0xc7, 0x02, 0x83, 0x00, 0x00, 0x40, // movl   $0x40000083,(%rdx)
		0xc7, 0x42, 0x04, 0x01, 0x00, 0x00, 0x00, // movl   $0x1,0x4(%rdx)
		0x0f, 0x20, 0xd8, // mov    %cr3,%rax
		0x0f, 0x22, 0xd8, // mov    %rax,%cr3
		0xbb, 0x00, 0x80, 0x00, 0xe0, // mov    $0xe0008000,%ebx
		0xc7, 0x43, 0x04, 0x00, 0x00, 0x00, 0x00, // movl   $0x0,0x4(%rbx)
		0xc7, 0x43, 0x10, 0x00, 0x00, 0x00, 0x40, // movl   $0x40000000,0x10(%rbx)
		0xc7, 0x43, 0x14, 0x01, 0x00, 0x00, 0x00, // movl   $0x1,0x14(%rbx)
		0xc7, 0x43, 0x04, 0x06, 0x00, 0x00, 0x00, // movl   $0x6,0x4(%rbx)
		0xb9, 0x05, 0x00, 0x00, 0x00, // mov    $0x5,%ecx
		0x48, 0xc1, 0xe1, 0x1e, // shl    $0x1e,%rcx
		0xc6, 0x41, 0x14, 0x00, // movb   $0x0,0x14(%rcx)
		0xc6, 0x41, 0x14, 0x03, // movb   $0x3,0x14(%rcx)
		0x8a, 0x41, 0x14, // mov    0x14(%rcx),%al
		0xe6, 0xf4, // out    %al,$0xf4
	}, func(c *Config) { c.DebugExit, c.RNG = true, true })
	o, err := m.Run(context.Background())
	if err != nil || o.Kind != DebugExit || o.Value != 3 {
		t.Errorf("Run = %+v, %v; want the device status, 3", o, err)
	}
}
