package system

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Debian's Xen, a Multiboot kernel in gzip, starts and sets about its first domain,
// a Linux that it is given as a module. It needs a PIT on the I/O APIC's input 2, and
// a BIOS data area.
func TestXen(t *testing.T) {
	const start = "Dom0 kernel: 64-bit" // Xen has read its file, and is about to build it
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out := watcher{word: start, seen: make(chan struct{})}
	cmd := exec.CommandContext(ctx, env(t, "VMM_BIN"), "boot", "--kernel", filepath.Join(env(t, "VMM_XEN"), "xen.gz"),
		"--initrd", env(t, "VMM_KERNEL_FULL")+"/vmlinuz", "--memory", "1G", "--timeout", "150s",
		"--cmdline", "com1=115200,8n1 console=com1 dom0_mem=512M noreboot")
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-out.seen:
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	case err := <-ended:
		t.Fatal(fmt.Errorf("it ended before %q: %w\n%s", start, err, tail(out.text.String())))
	}
}
