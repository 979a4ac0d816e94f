package machine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"vmm/boot"
	"vmm/kvm"
	"vmm/timeline"
)

// kernelFile makes a bzImage whose 64-bit entry is code.
func kernelFile(t testing.TB, code []byte) string {
	t.Helper()
	const setup, entry, size, header = 1024, 0x200, 4096, 0x1f1
	h := boot.SetupHeader{
		SetupSects: 1, BootFlag: 0xaa55, Jump: 0x6aeb, Magic: 0x5372_6448, Version: 0x20f, LoadFlags: 1,
		Code32Start: 0x10_0000, InitrdAddrMax: 0x7fff_ffff, KernelAlignment: 2 << 20, RelocatableKernel: 1,
		XLoadFlags: 1, CmdlineSize: 255, PrefAddress: 16 << 20, InitSize: 4 << 20, SysSize: size / 16,
	}
	file := make([]byte, setup+size)
	if _, err := binary.Encode(file[header:], binary.LittleEndian, &h); err != nil {
		t.Fatal(err)
	}
	copy(file[setup+entry:], code)
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// newMachine makes a machine that runs code, with interrupts on, none of which come:
// Bochs 3.0 lets its host have none either while a guest that it entered with
// interrupts off does not exit.
func newMachine(t testing.TB, code []byte, edit func(*Config)) *Machine {
	t.Helper()
	cfg := Config{Kernel: kernelFile(t, code), Memory: 64 << 20, CPUs: 1, Console: new(bytes.Buffer)}
	if edit != nil {
		edit(&cfg)
	}
	m, err := New(cfg)
	if (errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission)) && os.Getenv("VMM_REQUIRE_KVM") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	regs, err := m.cpus[0].vcpu.Regs()
	if err != nil {
		t.Fatal(err)
	}
	regs.RFLAGS |= 1 << 9 // IF. Intel SDM vol. 1 §3.4.3
	if err := m.cpus[0].vcpu.SetRegs(regs); err != nil {
		t.Fatal(err)
	}
	return m
}

// What is not there reads as all ones and is counted, and writes to it are
// dropped.
func TestUnclaimed(t *testing.T) {
	m := newMachine(t, []byte{
		0x66, 0xba, 0x34, 0x12, // mov $0x1234, %dx: no device
		0xed,                         // in (%dx), %eax
		0xef,                         // out %eax, (%dx)
		0x83, 0xf8, 0xff, 0x75, 0x0e, // cmp $-1, %eax; jne 1f
		0xb9, 0x00, 0x00, 0x00, 0xd0, // mov $0xd0000000, %ecx: no memory
		0x8a, 0x01, //                   mov (%rcx), %al
		0x3c, 0xff, 0x75, 0x03, //       cmp $-1, %al; jne 1f
		0xe6, 0xf4, //                   out %al, $0xf4
		0xf4,                   //       hlt
		0xb0, 0x00, 0xe6, 0xf4, // 1:    out 0
	}, func(c *Config) { c.DebugExit = true })
	o, err := m.Run(context.Background())
	if err != nil || o.Kind != DebugExit || o.Value != 0xff {
		t.Errorf("Run = %+v, %v; want debug exit 0xff", o, err)
	}
	if s := m.Stats(); s.Unclaimed != 3 || s.Exits != 4 {
		t.Errorf("%+v; want 3 unclaimed accesses of 4 exits", s)
	}
}

// A string instruction is several accesses in one exit.
func TestStringOut(t *testing.T) {
	var out bytes.Buffer
	m := newMachine(t, []byte{
		0x48, 0x8d, 0x35, 0x14, 0x00, 0x00, 0x00, // lea text(%rip), %rsi
		0xb9, 0x05, 0x00, 0x00, 0x00, //             mov $5, %ecx
		0x66, 0xba, 0xf8, 0x03, //                   mov $0x3f8, %dx
		0xfc, 0xf3, 0x6e, //                         cld; rep outsb
		0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, // power off
		0xf4,
		'h', 'e', 'l', 'l', 'o', // text
	}, func(c *Config) { c.Console = &out })
	if o, err := m.Run(context.Background()); err != nil || o.Kind != PoweredOff {
		t.Errorf("Run = %+v, %v; want power-off", o, err)
	}
	if out.String() != "hello" {
		t.Errorf("the guest wrote %q", &out)
	}
}

// A flat kernel is entered as the Multiboot specification says, with its command
// line and its module.
func TestMultiboot(t *testing.T) {
	file := make([]byte, 32, 128)
	for i, field := range []uint32{
		0x1bad_b002, 1 << 16, 0xe451_4ffe, // magic, flags, checksum
		1 << 20, 1 << 20, 0, 0, 1<<20 + 32, // addresses: header, load, ends, entry
	} {
		binary.LittleEndian.PutUint32(file[4*i:], field)
	}
	file = append(file,
		0x3d, 0x02, 0xb0, 0xad, 0x2b, // cmp $0x2badb002, %eax
		0x75, 0x18, //                   jne 2f
		0x8b, 0x73, 0x10, //             mov 16(%ebx), %esi: the command line
		0x66, 0xba, 0xf8, 0x03, //       mov $0x3f8, %dx
		0xac, 0x84, 0xc0, 0x74, 0x03, // 0: lodsb; test %al, %al; jz 1f
		0xee, 0xeb, 0xf8, //                out %al, (%dx); jmp 0b
		0x8b, 0x43, 0x18, //             1: mov 24(%ebx), %eax: the modules
		0x8b, 0x30, 0xac, //                mov (%eax), %esi; lodsb
		0xe6, 0xf4, 0xf4, //                out %al, $0xf4; hlt
		0xb0, 0x00, 0xe6, 0xf4, 0xf4) //  2: out 0; hlt
	dir := t.TempDir()
	kernel, initrd := filepath.Join(dir, "tiny"), filepath.Join(dir, "initrd")
	for path, data := range map[string][]byte{kernel: file, initrd: []byte("Module")} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	m := newMachine(t, nil, func(c *Config) {
		c.Kernel, c.Initrd, c.Append, c.Console, c.DebugExit = kernel, initrd, "-v", &out, true
	})
	o, err := m.Run(context.Background())
	if err != nil || o.Kind != DebugExit || o.Value != 'M' || out.String() != "tiny -v" {
		t.Errorf("Run = %+v, %v; console %q; want the module's first byte and the command line", o, err, &out)
	}
}

// Cancelling the context ends every thread of the largest machine at once, and
// none is left behind.
func TestCancel(t *testing.T) {
	before := runtime.NumGoroutine()
	m := newMachine(t, []byte{0xeb, 0xfe}, func(c *Config) { c.CPUs = 64 })
	ctx, cancel := context.WithCancel(context.Background())
	var cancelled time.Time
	time.AfterFunc(50*time.Millisecond, func() {
		cancelled = time.Now()
		cancel()
	})
	o, err := m.Run(ctx)
	took := time.Since(cancelled)
	if err != nil || o.Kind != Stopped {
		t.Errorf("Run = %+v, %v; want stopped", o, err)
	}
	t.Logf("64 vCPUs ended %v after the cancel", took)
	if took > 2*time.Second { // what users get is measured in tests/system; this is for hangs
		t.Errorf("it took %v", took)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines; there were %d before", runtime.NumGoroutine(), before)
		}
	}
}

// A context that is done already runs nothing for long.
func TestCancelledBefore(t *testing.T) {
	m := newMachine(t, []byte{0xeb, 0xfe}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if o, err := m.Run(ctx); err != nil || o.Kind != Stopped {
		t.Errorf("Run = %+v, %v; want stopped", o, err)
	}
}

// Machines do not share anything.
func TestManyMachines(t *testing.T) {
	var group sync.WaitGroup
	for range 8 {
		m := newMachine(t, []byte{0xb0, 0x2a, 0xe6, 0xf4, 0xf4}, func(c *Config) { c.DebugExit = true })
		group.Go(func() {
			if o, err := m.Run(context.Background()); err != nil || o.Kind != DebugExit || o.Value != 0x2a {
				t.Errorf("Run = %+v, %v; want debug exit 0x2a", o, err)
			}
		})
	}
	group.Wait()
}

func TestCrashReport(t *testing.T) {
	m := newMachine(t, []byte{
		0xb8, 0xef, 0xbe, 0xad, 0xde, // mov $0xdeadbeef, %eax
		0xe6, 0x80, //                   out %al, $0x80
		0x0f, 0x0b, //                   ud2, with no table of handlers
	}, nil)
	o, err := m.Run(context.Background())
	if err != nil || o.Kind != Crashed {
		t.Fatalf("Run = %+v, %v; want a crash", o, err)
	}
	var text strings.Builder
	if _, err := o.Crash.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	wants := []string{"triple fault", "rax 00000000deadbeef", "rip 0010:0000000001000207", "instruction: ud2", "1-byte write of port 0x80"}
	if o.Crash.Lost != "" { // on AMD
		wants = []string{"triple fault", "its registers are lost: KVM on AMD", "with --timeline", "1-byte write of port 0x80"}
	}
	for _, want := range wants {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &text)
		}
	}
}

// Where KVM has lost the registers, a machine that is watched shows those of the
// exit before.
func TestCrashReportOfAWatchedMachine(t *testing.T) {
	m := newMachine(t, []byte{
		0xb8, 0xef, 0xbe, 0xad, 0xde, // mov $0xdeadbeef, %eax
		0xe6, 0x80, //                   out %al, $0x80
		0x0f, 0x0b, //                   ud2, with no table of handlers
	}, func(c *Config) { c.Timeline = timeline.New(time.Now()) })
	o, err := m.Run(context.Background())
	if err != nil || o.Kind != Crashed {
		t.Fatalf("Run = %+v, %v; want a crash", o, err)
	}
	var text strings.Builder
	if _, err := o.Crash.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "rax 00000000deadbeef") {
		t.Errorf("the report lacks the registers:\n%s", &text)
	}
	if c := o.Crash; (c.Registers == nil) == (c.Known == nil) {
		t.Errorf("registers %v, last known %v: want one of them", c.Registers, c.Known)
	}
}

// The state after INIT is told from that of a guest.
func TestReset(t *testing.T) {
	after := kvm.Sregs{CS: kvm.Segment{Base: 0xffff_0000, Selector: 0xf000}, CR0: 0x6000_0010}
	guest := kvm.Sregs{CS: kvm.Segment{Selector: 0x10}, CR0: cr0PE}
	if !reset(kvm.Regs{RIP: 0xfff0}, after) || reset(kvm.Regs{RIP: 0xfff0}, guest) || reset(kvm.Regs{RIP: 0x1000}, after) {
		t.Error("reset does not tell them apart")
	}
}

// A failed New leaves nothing open.
func TestNewFails(t *testing.T) {
	newMachine(t, nil, nil) // skips without KVM
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for _, edit := range []func(*Config){
		func(c *Config) { c.Kernel = "absent" },
		func(c *Config) { c.Initrd = "absent" },
		func(c *Config) { c.Memory = 16 << 20 },
		func(c *Config) { c.Append = strings.Repeat("x", 300) },
	} {
		cfg := Config{Kernel: kernelFile(t, nil), Memory: 64 << 20, CPUs: 2}
		edit(&cfg)
		if m, err := New(cfg); err == nil {
			m.Close()
			t.Errorf("New(%+v) succeeds", cfg)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d files are open; there were %d before", after, before)
	}
}
