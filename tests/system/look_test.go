package system

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmm/trace"
)

// gdbCommands is what somebody does who looks at a kernel that starts.
const gdbCommands = `
set pagination off
set confirm off
target remote SOCKET
break start_kernel
continue
next
next
printf "task: %s\n", init_task.comm
stepi
printf "stepped to %p\n", $rip
delete
break do_execveat_common
continue
backtrace
printf "current: %s %d\n", ((struct task_struct *)*(unsigned long *)($gs_base + (unsigned long)&current_task))->comm, ((struct task_struct *)*(unsigned long *)($gs_base + (unsigned long)&current_task))->pid
info threads
detach
`

// Debian's gdb, with the kernel's debugging information, stops a stock kernel at
// start_kernel, steps, finds tasks by name and prints a backtrace; when it goes,
// the guest boots on.
func TestGDB(t *testing.T) {
	vmlinux, kernel, initrd := env(t, "VMM_VMLINUX"), env(t, "VMM_KERNEL_DEBUG")+"/vmlinuz", env(t, "VMM_INITRD_DEBUG")
	dir := t.TempDir()
	socket, script := filepath.Join(dir, "gdb"), filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte(strings.ReplaceAll(gdbCommands, "SOCKET", socket)), 0o644); err != nil {
		t.Fatal(err)
	}
	said := make(chan []byte, 1)
	go func() {
		for range 600 {
			if _, err := os.Stat(socket); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		out, err := exec.Command("gdb", "-nx", "-batch", "-x", script, vmlinux).CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		said <- out
	}()
	r := once(t, nil, guest(kernel, initrd, "info", "--kaslr", "off", "--gdb", "unix:"+socket, "--wait-gdb", "--cpus", "2", "--timeout", "200s")...)
	out := string(<-said)
	for _, want := range []string{
		"Breakpoint 1, start_kernel", "task: swapper", "stepped to 0xffffffff8", "do_execveat_common", "#1 ", "do_syscall_64",
		"current: init", "Thread 2 (vCPU 1", "detached",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("gdb does not say %q:\n%s", want, out)
			break
		}
	}
	if r.status != 0 || !strings.Contains(r.out, "kernel: ") {
		t.Errorf("the guest does not boot on: status %d, %s\n%s", r.status, r.err, tail(r.out))
	}
}

// A trace of a stock kernel's start has the kernel's functions, the devices'
// registers by name, and requests from the doorbell to completion.
func TestTrace(t *testing.T) {
	dir := t.TempDir()
	image, file := filepath.Join(dir, "disk"), filepath.Join(dir, "trace")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, 0, nil, guest(env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD"), "info", "--timeout", "150s", "--disk", "path="+image,
		"--trace", file, "--trace-format", "jsonl", "--trace-doorbells")...)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	exits, named, found := 0, 0, 0
	d := json.NewDecoder(bytes.NewReader(text))
	for d.More() {
		var e trace.Event
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Lost > 0 {
			t.Logf("%d records lost", e.Lost)
		}
		seen[e.Kind+" "+e.Device+" "+e.Register] = true
		if e.Op != "" {
			exits++
			if e.Symbol != "" {
				named++
			}
			if e.Insn != "" {
				found++
			}
		}
	}
	for _, want := range []string{
		"exit COM1 LCR", "exit COM1 THR", "exit RTC index", "exit virtio-blk0 QueueNotify 0", "exit virtio-blk0 device_status",
		"doorbell virtio-blk0 ", "pop virtio-blk0 ", "push virtio-blk0 ", "interrupt virtio-blk0 ", "interrupt COM1 ",
	} {
		if !seen[want] {
			t.Errorf("the trace lacks %q", want)
		}
	}
	if found < exits*99/100 || named < exits*9/10 {
		t.Errorf("of %d accesses %d have an instruction and %d a function", exits, found, named)
	}
}
