// Package unikernel runs the unikernel of guest-images/unikernel as its users do:
// under vmm, where there is /dev/kvm, and under QEMU, which needs none, on both
// transports of virtio. Whatever KVM is good for, a kernel this small runs on it.
//
// All of it happens in a network namespace of the test's own, so that addresses
// and ports are free.
package unikernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const inNamespace = "VMM_TEST_NAMESPACE"

// TestMain runs the tests in a namespace: as root, or as the root of a user
// namespace.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) != "" {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			fmt.Printf("ip link set lo up: %v\n%s", err, out)
			os.Exit(1)
		}
		var err error
		if programs, err = os.MkdirTemp("", "unikernel"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		status := m.Run()
		_ = os.RemoveAll(programs)
		os.Exit(status)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // Pdeathsig comes when the thread ends that started the process
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Printf("a network namespace: %v\n", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// build runs a build script of guest-images and returns the path that it prints.
func build(t testing.TB, name string) string {
	t.Helper()
	if path := os.Getenv("VMM_UNIKERNEL"); path != "" {
		return path
	}
	cmd := exec.Command("../../guest-images/" + name)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// link is what a card is connected to: a network of the monitor's own, with the
// service's port at 127.0.0.1:8080, or a tap device.
type link string

const user link = ""

// monitor is a way to run the unikernel.
type monitor struct {
	name string
	// command is the command line for a kernel, memory in MiB and words for
	// the kernel.
	command func(t testing.TB, kernel string, mib int, at link, words string) []string
}

// word joins words that may be empty.
func word(words ...string) string { return strings.TrimSpace(strings.Join(words, " ")) }

func vmm(transport, words string) func(testing.TB, string, int, link, string) []string {
	return func(t testing.TB, kernel string, mib int, at link, more string) []string {
		if _, err := os.Stat("/dev/kvm"); err != nil {
			if os.Getenv("VMM_REQUIRE_KVM") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
		binary := os.Getenv("VMM_BIN")
		if binary == "" {
			binary = vmmBinary(t)
		}
		net := "user,hostfwd=tcp:127.0.0.1:8080-:8080"
		if at != user {
			net = "tap=" + string(at)
		}
		return []string{binary, "boot", "--json", "--kernel", kernel, "--memory", fmt.Sprintf("%dM", mib), "--rng=false",
			"--transport", transport, "--net", net, "--append", word(words, more)}
	}
}

func qemu(machine ...string) func(testing.TB, string, int, link, string) []string {
	return func(t testing.TB, kernel string, mib int, at link, words string) []string {
		if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
			t.Fatalf("%v; install qemu-system-x86", err)
		}
		net := "user,id=net,hostfwd=tcp:127.0.0.1:8080-:8080"
		if at != user {
			net = "tap,id=net,script=no,downscript=no,ifname=" + string(at)
		}
		args := []string{"qemu-system-x86_64", "-cpu", "max", "-m", fmt.Sprint(mib), "-nodefaults", "-display", "none",
			"-no-reboot", "-serial", "stdio", "-netdev", net, "-kernel", kernel, "-append", words}
		return append(args, machine...)
	}
}

var monitors = []monitor{
	{"vmm, PCI", vmm("pci", "")},
	{"vmm, MMIO", vmm("mmio", "acpi=off")},
	{"QEMU microvm", qemu("-M", "microvm,acpi=off", "-global", "virtio-mmio.force-legacy=false", "-device", "virtio-net-device,netdev=net")},
	{"QEMU q35", qemu("-M", "q35", "-device", "virtio-net-pci,netdev=net")},
}

// vmmBinary builds vmm, and vmm-tools beside it, once.
func vmmBinary(t testing.TB) string {
	t.Helper()
	buildVMM.Do(func() {
		var out []byte
		out, errVMM = exec.Command("go", "build", "-o", programs+"/", "vmm/cmd/vmm", "vmm/cmd/vmm-tools").CombinedOutput()
		if errVMM != nil {
			errVMM = fmt.Errorf("%w\n%s", errVMM, out)
		}
	})
	if errVMM != nil {
		t.Fatalf("go build: %v", errVMM)
	}
	return programs + "/vmm"
}

var (
	programs string // a folder that TestMain removes
	buildVMM sync.Once
	errVMM   error
)

// guest is a unikernel that runs.
type guest struct {
	t       testing.TB
	cmd     *exec.Cmd
	console *console
	input   io.WriteCloser
	stderr  bytes.Buffer
	ended   chan struct{} // closed when the monitor has ended
	err     error         // of its end
}

// console is what the guest has said.
type console struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(p)
	select {
	case c.wrote <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// start starts a unikernel. It is ended with the test.
func (m monitor) start(t testing.TB, mib int, at link, words string) *guest {
	t.Helper()
	args := m.command(t, build(t, "unikernel/build"), mib, at, words)
	g := &guest{t: t, console: &console{wrote: make(chan struct{}, 1)}, ended: make(chan struct{})}
	g.cmd = exec.Command(args[0], args[1:]...)
	g.cmd.Stdout, g.cmd.Stderr = g.console, &g.stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if g.input, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	go func() {
		// Pdeathsig comes when the thread ends that started the process.
		runtime.LockOSThread()
		err := g.cmd.Start()
		started <- err
		if err == nil {
			g.err = g.cmd.Wait()
		}
		close(g.ended)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			t.Logf("console:\n%s\nstandard error:\n%s", g.console, &g.stderr)
		}
	})
	return g
}

// kill ends the guest as no guest can prevent.
func (g *guest) kill() {
	_ = g.cmd.Process.Kill()
	<-g.ended
}

// expect waits until the guest has said something.
func (g *guest) expect(text string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for !strings.Contains(g.console.String(), text) {
		select {
		case <-g.console.wrote:
		case <-g.ended:
			g.t.Fatalf("the guest ended before it said %q: %v", text, g.err)
		case <-ctx.Done():
			g.t.Fatalf("the guest has not said %q", text)
		}
	}
}

// end waits until the guest has ended.
func (g *guest) end() error {
	g.t.Helper()
	select {
	case <-g.ended:
		return g.err
	case <-time.After(time.Minute):
		g.t.Fatal("the guest has not ended")
		return errors.New("timeout")
	}
}

const (
	listening = "rest: listening on "
	forwarded = "127.0.0.1:8080"
)

// reach connects to the service.
func reach(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK\r\n") {
		err = fmt.Errorf("the answer is %q", answer)
	}
	return err
}
