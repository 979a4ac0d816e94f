// Package system boots stock Debian kernels with the vmm binary, as a user
// does, and looks at what comes over the serial line. The script run prepares
// the files that the environment names, and decides where the tests run.
package system

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmm/boot"
)

// vmlinux unpacks the ELF kernel from a bzImage.
func vmlinux(t *testing.T, bzImage string) string {
	t.Helper()
	img, err := boot.Open(bzImage)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	unpacked, err := img.Vmlinux()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, unpacked, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every kernel boots by every protocol it has, with the CPUs and the memory
// that it was given.
func TestBoot(t *testing.T) {
	old, oldInitrd := env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD")
	latest, latestInitrd := env(t, "VMM_KERNEL_NEW")+"/vmlinuz", env(t, "VMM_INITRD_NEW")
	tests := []struct {
		name           string
		kernel, initrd string
		protocol       string
		cpus, mib      int
		version        string
	}{
		{"6.1 bzImage", old, oldInitrd, "auto", 1, 512, "6.1."},
		{"6.1 bzImage, 32-bit entry", old, oldInitrd, "linux32", 1, 512, "6.1."},
		{"6.1 bzImage, unpacked in the guest", old, oldInitrd, "linux64", 1, 512, "6.1."},
		{"6.1 bzImage, PVH", old, oldInitrd, "pvh", 1, 512, "6.1."},
		{"6.1 bzImage, 2 CPUs", old, oldInitrd, "direct", 2, 512, "6.1."},
		{"6.1 vmlinux, 64-bit entry", vmlinux(t, old), oldInitrd, "linux64", 1, 512, "6.1."},
		{"6.12 bzImage, 4 CPUs", latest, latestInitrd, "auto", 4, 512, "6.12."},
		{"6.12 vmlinux, PVH", vmlinux(t, latest), latestInitrd, "auto", 1, 512, "6.12."},
		{"128 MiB", old, oldInitrd, "auto", 1, 128, "6.1."},
		{"5 GiB", old, oldInitrd, "auto", 1, 5 << 10, "6.1."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, 0, nil, guest(tt.kernel, tt.initrd, "info", "--boot-protocol", tt.protocol,
				"--cpus", strconv.Itoa(tt.cpus), "--memory", strconv.Itoa(tt.mib)+"M")...)
			if r.report.Outcome != "power-off" {
				t.Errorf("outcome %q; want power-off", r.report.Outcome)
			}
			if v := line(r.out, "kernel"); !strings.HasPrefix(v, tt.version) {
				t.Errorf("kernel %q; want %s", v, tt.version)
			}
			if n := line(r.out, "cpus"); n != strconv.Itoa(tt.cpus) {
				t.Errorf("%s CPUs; want %d", n, tt.cpus)
			}
			// Linux keeps some to itself before it counts: 60 MiB and 3%.
			mib, _ := strconv.Atoi(strings.TrimSuffix(line(r.out, "memory"), " MiB"))
			if least := tt.mib - 60 - tt.mib*3/100; mib < least || mib > tt.mib {
				t.Errorf("%d MiB of memory; want between %d and %d", mib, least, tt.mib)
			}
		})
	}
}

// A kernel is at other addresses each time, which are those that vmm chose and
// that Linux itself might have chosen; and where it was linked to be when that is
// asked for.
func TestKASLR(t *testing.T) {
	// CONFIG_PHYSICAL_START, CONFIG_PHYSICAL_ALIGN and KERNEL_IMAGE_SIZE.
	const physical, align, limit = 16 << 20, 2 << 20, 1 << 30
	const virtual = 0xffff_ffff_8000_0000 + physical
	const ram = 512 << 20
	chosen := regexp.MustCompile(`Offset:(\d+) Slide:(\d+)`)
	boots := func(t *testing.T, flags ...string) (text, code uint64) {
		t.Helper()
		r := run(t, 0, nil, guest(env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD"), "addresses", append(flags, "-v")...)...)
		text, err := strconv.ParseUint(line(r.out, "virtual"), 0, 64)
		if err != nil {
			t.Fatalf("%v; console:\n%s", err, tail(r.out))
		}
		if code, err = strconv.ParseUint(line(r.out, "physical"), 0, 64); err != nil {
			t.Fatal(err)
		}
		said := chosen.FindStringSubmatch(r.err)
		if want := fmt.Sprint(code-physical, text-virtual); said == nil || said[1]+" "+said[2] != want {
			t.Errorf("vmm says it chose %v; the guest has %s", said, want)
		}
		return text, code
	}
	if text, code := boots(t, "--kaslr", "off"); text != virtual || code != physical {
		t.Errorf("with --kaslr=off the kernel is at %#x, %#x; want %#x, %#x", text, code, uint64(virtual), physical)
	}
	n := 4
	if os.Getenv("VMM_SOAK") != "" {
		n = 20
	}
	seen := map[uint64]int{}
	for range n {
		text, code := boots(t)
		if text%align != 0 || code%align != 0 || text < virtual || text >= virtual-physical+limit || code < physical || code >= ram {
			t.Errorf("the kernel is at %#x, %#x", text, code)
		}
		seen[text]++
		seen[code]++
	}
	// Of 480 and 220 places, 20 boots meet 19.6 and 19.2 on average, and fewer
	// than 10 of both together practically never.
	if want := n * 2 * 3 / 4; len(seen) < want {
		t.Errorf("%d different addresses in %d boots: %x; want %d or more", len(seen), n, seen, want)
	}
}

// line is the value of a line "name: value" of the guest's output.
func line(out, name string) string {
	m := regexp.MustCompile(`(?m)^` + name + `:\s*(.*?)\r?$`).FindStringSubmatch(out)
	if m == nil {
		return ""
	}
	return m[1]
}

// The kernel finds the hardware that is there, and complains of nothing.
func TestKernelLog(t *testing.T) {
	r := run(t, 0, nil, "--kernel", env(t, "VMM_KERNEL")+"/vmlinuz", "--initrd", env(t, "VMM_INITRD"),
		"--timeout", "60s", "--append", "vmm.do=poweroff")
	for _, want := range []string{
		"is a 16550A",
		"ttyS0 at I/O 0x3f8",
		"rtc_cmos",
		"TSC deadline timer available",
		"ACPI: Interpreter enabled",
		"IOAPIC[0]",
		"Hypervisor detected: KVM",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("the kernel's log lacks %q", want)
		}
	}
	for _, bad := range []string{"ACPI Error", "ACPI BIOS Error", "Kernel panic", "BUG:", "Call Trace", "Firmware Bug"} {
		if i := strings.Index(r.out, bad); i >= 0 {
			t.Errorf("the kernel's log has %q:\n%s", bad, r.out[max(0, i-200):min(len(r.out), i+400)])
		}
	}
}

func TestEnds(t *testing.T) {
	kernel, initrd := env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD")
	tests := []struct {
		name    string
		do      string
		flags   []string
		status  int
		outcome string
	}{
		{"power-off", "poweroff", nil, 0, "power-off"},
		{"reset", "reboot", nil, 0, "reset"},
		{"panic", "panic", nil, 3, "crash"},
		{"debug exit", "debugexit:0x15", []string{"--debug-exit"}, 0x15<<1 | 1, "debug-exit"},
		{"timeout", "spin", []string{"--timeout", "15s"}, 124, "timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, tt.status, nil, guest(kernel, initrd, tt.do, tt.flags...)...)
			if r.report.Outcome != tt.outcome {
				t.Errorf("outcome %q; want %q (%s)", r.report.Outcome, tt.outcome, r.err)
			}
		})
	}
}

// A panic before there are drivers: no root file system.
func TestEarlyPanic(t *testing.T) {
	r := run(t, 3, nil, "--kernel", env(t, "VMM_KERNEL")+"/vmlinuz", "--timeout", "60s", "--append", "quiet")
	if !strings.Contains(r.out, "Unable to mount root fs") || !strings.Contains(r.report.Message, "panicked") {
		t.Errorf("report %q, console:\n%s", r.report.Message, tail(r.out))
	}
}

// A paste arrives as it was sent, without a byte lost or doubled. A mebibyte
// takes the lab some five minutes, which only make soak has.
func TestInput(t *testing.T) {
	size := 1 << 20
	if inLab() && os.Getenv("VMM_SOAK") == "" {
		size = 8 << 10
	}
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	want := fmt.Sprintf("sha256: %x", sha256.Sum256(data))
	r := run(t, 0, &typed{"ready for input", string(data)}, guest(env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD"),
		fmt.Sprintf("input:%d", len(data)), "--timeout", "10m")...)
	if !strings.Contains(r.out, want) {
		t.Errorf("the guest read something else; want %s, console:\n%s", want, tail(r.out))
	}
}

// What "make shell" gives: a prompt, commands, and the end of the machine with
// the shell's.
func TestShell(t *testing.T) {
	r := run(t, 0, &typed{"$ ", "echo $((6 * 7)) of $(hostname)\nexit\n"},
		"--kernel", env(t, "VMM_KERNEL")+"/vmlinuz", "--initrd", env(t, "VMM_INITRD"), "--timeout", "60s", "--append", "quiet")
	if want := "42 of "; !strings.Contains(r.out, want) {
		t.Errorf("the shell did not say %q; console:\n%s", want, tail(r.out))
	}
	if r.report.Outcome != "power-off" {
		t.Errorf("after the shell: %s", r.report.Outcome)
	}
}

// A signal ends vmm within 100 ms, whatever the guest does.
func TestSignal(t *testing.T) {
	cmd := exec.Command(env(t, "VMM_BIN"), append([]string{"boot"}, guest(env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD"), "spin", "--cpus", "2")...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// As soon as the guest says anything at all.
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	limit := 100 * time.Millisecond
	if inLab() {
		limit *= 20 // a processor of the lab is that much slower, and has one half of this machine
	}
	if took := time.Since(start); took > limit {
		t.Errorf("vmm ended %v after SIGTERM", took)
	}
	if got := cmd.ProcessState.ExitCode(); got != 128+int(syscall.SIGTERM) {
		t.Errorf("exit status %d; want %d", got, 128+int(syscall.SIGTERM))
	}
}

// What vmm needs beside the guest's RAM, once the guest has booted and come to
// rest.
func TestOverhead(t *testing.T) {
	cmd := exec.Command(env(t, "VMM_BIN"), append([]string{"boot", "-v"}, guest(env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD"), "spin", "--memory", "256M")...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	console := bufio.NewScanner(out)
	for console.Scan() && !strings.Contains(console.Text(), "spinning") {
	}
	if err := console.Err(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settled)
	mappings, err := resident(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	var ram mapping
	if _, err := fmt.Sscanf(regexp.MustCompile(`msg=RAM (.*)`).FindString(string(said)), "msg=RAM guest=0 host=%d size=%d", &ram.start, &ram.size); err != nil {
		t.Fatalf("%v; log:\n%s", err, said)
	}
	ram.size >>= 10
	sum, report := uint64(0), new(strings.Builder)
	for _, m := range mappings {
		if m.start+m.size<<10 <= ram.start || m.start >= ram.start+ram.size<<10 {
			sum += m.rss
			fmt.Fprintf(report, "%6d of %6d KiB  %s\n", m.rss, m.size, m.name)
		}
	}
	t.Logf("memory beside guest RAM: %d KiB\n%s", sum, report)
	if sum > 8<<10 {
		t.Errorf("%d KiB of memory beside guest RAM; want at most 8 MiB", sum)
	}
}

// mapping is a range of a process's memory: its address, and sizes in KiB.
type mapping struct {
	name           string
	start          uint64
	size, rss, pss uint64
}

// resident lists a process's mappings that are in memory, the largest first.
func resident(pid int) ([]mapping, error) {
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return nil, err
	}
	var all []mapping
	for l := range strings.Lines(string(smaps)) {
		f := strings.Fields(l)
		switch {
		case !strings.HasSuffix(f[0], ":"): // 00400000-005e4000 r-xp 00000000 08:01 17 /bin/vmm
			m := mapping{name: strings.Join(append(f[:2:2], f[5:]...), " ")}
			first, _, _ := strings.Cut(f[0], "-")
			m.start, err = strconv.ParseUint(first, 16, 64)
			all = append(all, m)
		case f[0] == "Size:":
			all[len(all)-1].size, err = strconv.ParseUint(f[1], 10, 64)
		case f[0] == "Rss:":
			all[len(all)-1].rss, err = strconv.ParseUint(f[1], 10, 64)
		case f[0] == "Pss:":
			all[len(all)-1].pss, err = strconv.ParseUint(f[1], 10, 64)
		}
		if err != nil {
			return nil, err
		}
	}
	all = slices.DeleteFunc(all, func(m mapping) bool { return m.rss == 0 })
	slices.SortFunc(all, func(a, b mapping) int { return cmp.Compare(b.rss, a.rss) })
	return all, nil
}

// TestSoak boots as often as VMM_SOAK says, and expects no failure.
func TestSoak(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("VMM_SOAK"))
	if n == 0 {
		t.Skip("only with make soak")
	}
	failed := 0
	for i := range n {
		r := once(t, nil, guest(env(t, "VMM_KERNEL")+"/vmlinuz", env(t, "VMM_INITRD"), "info", "--cpus", strconv.Itoa(1+i%2))...)
		if r.status != 0 {
			failed++
			t.Errorf("boot %d: exit status %d: %s", i, r.status, r.err)
		}
	}
	t.Logf("%d of %d boots failed", failed, n)
}

// Example 09 boots Linux by hand, until it misses a root file system and resets
// the machine. Its log is what the lesson says.
func TestExample(t *testing.T) {
	lesson, err := os.ReadFile(env(t, "VMM_LESSON_09"))
	if err != nil {
		t.Fatal(err)
	}
	_, log, _ := strings.Cut(string(lesson), "```log\n")
	log, _, found := strings.Cut(log, "```")
	if !found || log == "" {
		t.Fatal("the lesson shows no log")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, env(t, "VMM_EXAMPLE_09"), env(t, "VMM_KERNEL")+"/vmlinuz").CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	rest := string(out)
	for want := range strings.Lines(log) {
		want = strings.TrimSpace(want)
		if _, rest, found = strings.Cut(rest, want); !found {
			t.Errorf("the console lacks %q, or has it too early", want)
			break
		}
	}
	if t.Failed() {
		t.Logf("the console ends:\n%s", tail(string(out)))
	}
}
