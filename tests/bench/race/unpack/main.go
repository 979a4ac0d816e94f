// Command unpack writes the ELF kernel that a bzImage holds to a file.
//
//	unpack VMLINUZ VMLINUX
package main

import (
	"log"
	"os"

	"vmm/boot"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("unpack: ")
	if len(os.Args) != 3 {
		log.Fatal("usage: unpack VMLINUZ VMLINUX")
	}
	image, err := boot.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	elf, err := image.Vmlinux()
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[2], elf, 0o644); err != nil {
		log.Fatal(err)
	}
}
