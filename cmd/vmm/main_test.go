package main

import (
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"vmm/boot"
	"vmm/doctor"
	"vmm/machine"
	"vmm/sandbox"
	"vmm/tools/toolstest"
)

func TestMain(m *testing.M) {
	if sandbox.Host().Threads != nil { // with the race detector, say
		defaultSandbox = sandbox.Off
	}
	testscript.Main(tests{m}, map[string]func(){"vmm": main, "vmm-hang": hang, "vmm-hostile": hostile})
}

// hang is a vmm that does not end in good order: what it waits for when the guest
// has ended never comes.
func hang() {
	end := newEnding(false, false)
	end.onSignals()
	timeout, err := time.ParseDuration(os.Args[2])
	if err != nil {
		panic(err)
	}
	end.after(timeout)
	m, err := machine.New(machine.Config{Kernel: os.Args[1], Memory: 64 << 20, CPUs: 1, Console: io.Discard})
	if err != nil {
		panic(err)
	}
	end.running(m)
	end.doing("the test")
	if err := os.WriteFile("hangs", nil, 0o666); err != nil {
		panic(err)
	}
	if _, err := m.Run(end.ctx); err != nil {
		panic(err)
	}
	select {}
}

// tests are those of this package, with vmm-tools in PATH.
type tests struct{ *testing.M }

func (t tests) Run() int {
	// The scripts begin with the signals of a terminal, though these tests may have
	// been started by nohup or in the background: what is caught here has its
	// default again in a program that is executed.
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	return toolstest.Run(t.M.Run)
}

// TestScripts runs the command lines of testdata as a user does. Each finds the
// kernels of writeKernels in its folder.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			env.Setenv("PROGRAM", program)
			return writeKernels(env.WorkDir)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "race":
				return raceEnabled, nil
			case "kvm":
				_, err := os.Stat("/dev/kvm")
				if err != nil && os.Getenv("VMM_REQUIRE_KVM") != "" {
					return false, err
				}
				return err == nil, nil
			case "gdb":
				_, err := exec.LookPath("gdb")
				if err != nil && os.Getenv("VMM_REQUIRE_KVM") != "" {
					return false, err
				}
				return err == nil, nil
			case "interpreted": // the guest's kernel, by this host's KVM
				return doctor.Interpreted() != "", nil
			case "caged": // by this host, and this binary
				return sandbox.Missing() == nil, nil
			case "root":
				return os.Getuid() == 0, nil
			}
			return false, os.ErrInvalid
		},
	})
}

// Kernels of a few instructions, entered in long mode.
var kernels = map[string][]byte{
	// movb $0x41 and $0x55 to port 0x80, 123 to the boot timer; power off
	"markers": {
		0xb0, 0x41, 0xe6, 0x80, 0xb0, 0x55, 0xe6, 0x80,
		0xb9, 0x00, 0x00, 0x00, 0xc0, 0xc6, 0x01, 123,
		0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4,
	},
	// Says "hi" on the serial port and switches the machine off.
	"hello": {
		0x66, 0xba, 0xf8, 0x03, // mov $0x3f8, %dx
		0xb0, 'h', 0xee, //        mov $'h', %al; out %al, %dx
		0xb0, 'i', 0xee,
		0x66, 0xba, 0x00, 0x06, // mov $0x600, %dx: the sleep control register
		0xb0, 0x34, 0xee, //       S5, and go
		0xf4, //                   hlt
	},
	// Resets through the keyboard controller.
	"reset": {0xb0, 0xfe, 0xe6, 0x64, 0xf4},
	// Writes 0x15 to the debug-exit port.
	"debugexit": {0xb0, 0x15, 0xe6, 0xf4, 0xf4},
	// Write to port 0x501, a byte, a word and a long.
	"exit-byte": {0x66, 0xba, 0x01, 0x05, 0xb0, 0x21, 0xee, 0xf4},
	"exit-word": {0x66, 0xba, 0x01, 0x05, 0x66, 0xb8, 0x43, 0x00, 0x66, 0xef, 0xf4},
	"exit-long": {0x66, 0xba, 0x01, 0x05, 0xb8, 0x12, 0x00, 0x00, 0x00, 0xef, 0xf4},
	// Says that it panicked, as Linux's driver does.
	"panic": {0x66, 0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4},
	// Runs for ever.
	"spin": {0xeb, 0xfe},
	// Says something for ever.
	"chatter": {
		0x66, 0xba, 0xf8, 0x03, //    mov $0x3f8, %dx
		0xb0, 'x', 0xee, 0xeb, 0xfd, // 1: mov $'x', %al; out %al, %dx; jmp to the out
	},
	// Writes to a port of nobody's, twice, and halts for good.
	"gives-up": {0x66, 0xba, 0x01, 0x05, 0xee, 0xee, 0xfa, 0xf4, 0xeb, 0xfd},
	// Adds with SSE, which it has switched on, and powers off.
	"sse": {
		0x0f, 0x20, 0xe0, 0x66, 0x0d, 0x00, 0x06, 0x0f, 0x22, 0xe0, // CR4: OSFXSR, OSXMMEXCPT
		0x0f, 0x58, 0xc1, //                                          addps %xmm1, %xmm0
		0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4,
	},
	// Writes to port 0x80 for ever.
	"flood": {0xe6, 0x80, 0xeb, 0xfc},
	// An invalid instruction and no table to find its handler in.
	"triple": {0x0f, 0x0b},
}

// writeKernels makes bzImages: kernels, and some with a fault.
func writeKernels(dir string) error {
	for name, code := range kernels {
		if err := os.WriteFile(filepath.Join(dir, name), bzImage(modern, code), 0o644); err != nil {
			return err
		}
	}
	old := modern
	old.XLoadFlags = 0
	jpeg := append([]byte("\xff\xd8\xff\xe0\x00\x10JFIF"), make([]byte, 9000)...)
	arm := make([]byte, 4096)
	copy(arm, "MZ")
	copy(arm[0x38:], "ARM\x64")
	for name, data := range map[string][]byte{
		"kernel32":   bzImage(old, kernels["spin"]),
		"truncated":  bzImage(modern, kernels["spin"])[:2000],
		"empty":      nil,
		"jpeg":       jpeg,
		"arm64":      arm,
		"initrd":     make([]byte, 30<<20),
		"longline":   make([]byte, 3000),
		"not-a-file": []byte("text\n"),
	} {
		if name == "longline" {
			for i := range data {
				data[i] = 'a'
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// modern is the setup header of a small 64-bit kernel.
var modern = boot.SetupHeader{
	SetupSects:        1,
	BootFlag:          0xaa55,
	Jump:              0x6aeb,
	Magic:             0x5372_6448, // "HdrS"
	Version:           0x20f,
	LoadFlags:         1,
	Code32Start:       0x10_0000,
	InitrdAddrMax:     0x7fff_ffff,
	KernelAlignment:   2 << 20,
	RelocatableKernel: 1,
	XLoadFlags:        1,
	CmdlineSize:       2047,
	PrefAddress:       16 << 20,
	InitSize:          4 << 20,
}

// bzImage is a kernel file: two sectors of setup code, and code at the 64-bit
// entry, 0x200 after them. Documentation/arch/x86/boot.rst.
func bzImage(h boot.SetupHeader, code []byte) []byte {
	const setup, entry, size, header = 1024, 0x200, 2048, 0x1f1
	h.SysSize = size / 16
	file := make([]byte, setup+size)
	if _, err := binary.Encode(file[header:], binary.LittleEndian, &h); err != nil {
		panic(err)
	}
	copy(file[setup+entry:], code)
	return file
}
