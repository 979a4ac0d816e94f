package guest

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

func outb(port uint16, value uint8)

// Outb writes a byte to a port.
func Outb(port uint16, value uint8) error {
	// The permission is the thread's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Iopl(3); err != nil {
		return fmt.Errorf("iopl: %w", err)
	}
	outb(port, value)
	return nil
}
