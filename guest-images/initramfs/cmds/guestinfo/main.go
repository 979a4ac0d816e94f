// guestinfo prints the kernel's version, the number of processors, the size of
// memory and the time since the start.
package main

import (
	"log"
	"os"

	"initramfs.local/guest"
)

func main() {
	if err := guest.PrintInfo(os.Stdout); err != nil {
		log.Fatalf("guestinfo: %v", err)
	}
}
