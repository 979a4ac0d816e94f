package boot

import (
	"os"
	"testing"

	"vmm/memory"
)

// BenchmarkUnpack unpacks the kernel that VMM_KERNEL_FILE names.
func BenchmarkUnpack(b *testing.B) {
	path := os.Getenv("VMM_KERNEL_FILE")
	if path == "" {
		b.Skip("VMM_KERNEL_FILE is not set")
	}
	img, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer img.Close()
	for b.Loop() {
		vmlinux, free, err := img.UnpackTo(memory.Scratch)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(vmlinux)))
		if err := free(); err != nil {
			b.Fatal(err)
		}
	}
}
