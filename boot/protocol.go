package boot

import (
	"fmt"
	"strings"
)

// Protocol is a way to enter a kernel.
type Protocol uint8

// The protocols.
const (
	// Auto chooses the best protocol that the image has.
	Auto Protocol = iota
	// Direct unpacks the kernel in a bzImage and enters it, in long mode, where
	// the code that unpacks it in the guest would.
	Direct
	// Linux64 enters a Linux kernel in long mode.
	// Documentation/arch/x86/boot.rst, "64-bit Boot Protocol".
	Linux64
	// Linux32 enters a Linux kernel in protected mode, as a BIOS-era loader
	// does. Documentation/arch/x86/boot.rst, "32-bit Boot Protocol".
	Linux32
	// PVH enters an ELF kernel at the address in its Xen note, in protected
	// mode. Documentation/arch/x86/boot.rst does not cover it; see Xen's
	// docs/misc/pvh.pandoc and include/xen/interface/hvm/start_info.h.
	PVH
	// Multiboot enters a kernel that has a Multiboot header, as GRUB does. It is
	// for 32-bit kernels that are not Linux. Multiboot Specification 0.6.96.
	Multiboot
)

var protocolNames = [...]string{"auto", "direct", "linux64", "linux32", "pvh", "multiboot"}

func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return fmt.Sprintf("protocol %d", p)
}

// ParseProtocol is the inverse of String.
func ParseProtocol(s string) (Protocol, error) {
	for i, name := range protocolNames {
		if s == name {
			return Protocol(i), nil
		}
	}
	return Auto, fmt.Errorf("not a boot protocol; choose one of %s", strings.Join(protocolNames[:], ", "))
}
