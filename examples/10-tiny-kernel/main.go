//go:build amd64

// Example 10: a kernel in C, and the machine that vmm is to boot it. The kernel is
// in the folder kernel; this program has it compiled and runs it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"vmm/examples/internal/tiny"
	"vmm/machine"
)

func main() { tiny.Main(run) }

func run() error {
	dir, err := os.MkdirTemp("", "tiny-kernel")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	kernel := filepath.Join(dir, "kernel.elf")
	build := exec.Command("examples/10-tiny-kernel/build", kernel) // from the project's folder
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("compile the kernel: %w", err)
	}

	m, err := machine.New(machine.Config{
		Kernel: kernel, Memory: 16 << 20, CPUs: 1, Append: "hello=world", Console: os.Stdout,
	})
	if err != nil {
		return err
	}
	defer m.Close()
	outcome, err := m.Run(context.Background())
	if err == nil {
		fmt.Println("the machine has ended:", outcome.Kind)
	}
	return err
}
