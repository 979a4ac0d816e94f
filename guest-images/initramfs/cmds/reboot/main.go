// reboot resets the machine at once.
package main

import (
	"log"

	"initramfs.local/guest"
)

func main() {
	if err := guest.Reboot(); err != nil {
		log.Fatalf("reboot: %v", err)
	}
}
