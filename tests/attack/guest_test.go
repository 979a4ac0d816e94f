// Package attack starts guests that misuse their devices as badly as they can, and
// looks at what becomes of vmm: that it ends when it is told to, with the status that
// it promises, with little memory, few descriptors and few words, and with the host as
// it was.
//
// The guests are in testdata/guests, assembled when the tests run; beside them, the
// drivers of package virtiotest do random things to each device. Long runs are for
// "make attack".
package attack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// duration is how long the long tests take in all; 0 for the quick ones. "make
// attack" sets it.
func duration(t testing.TB) time.Duration {
	text := os.Getenv("VMM_ATTACK")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal("VMM_ATTACK:", err)
	}
	return d
}

// binaries is the folder with vmm and vmm-tools, built once. VMM_BIN names others.
var binaries = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("VMM_BIN"); path != "" {
		return filepath.Dir(path), nil
	}
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		return "", err
	}
	args := []string{"build", "-o", dir + "/", "vmm/cmd/vmm", "vmm/cmd/vmm-tools"}
	if raceEnabled {
		args = append([]string{"build", "-race"}, args[1:]...)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); err == nil && os.Getenv("VMM_BIN") == "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// needKVM skips a test where there is no KVM, unless there must be.
func needKVM(t *testing.T) {
	t.Helper()
	fd, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
		return
	}
	if os.Getenv("VMM_REQUIRE_KVM") != "" {
		t.Fatal("/dev/kvm:", err)
	}
	t.Skip("/dev/kvm:", err)
}

// assemble makes a guest from its source.
func assemble(t *testing.T, name string, defines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".elf")
	args := append(defines, "-nostdlib", "-static", "-Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack",
		"-o", path, "testdata/guests/"+name+".S")
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

// machine is a vmm that runs a guest.
type machine struct {
	*exec.Cmd
	stdout  transcript
	stderr  bytes.Buffer
	input   io.Writer // of the guest's serial port
	control string    // the socket
	ended   chan error
	watched sync.WaitGroup

	// The largest that have been seen.
	rss, files, threads int
}

// transcript is what a guest writes, which may be read meanwhile.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (c *transcript) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(b)
}

func (c *transcript) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// start runs vmm boot.
func start(t *testing.T, args ...string) *machine {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "a") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	m := &machine{control: filepath.Join(sockets, "c"), ended: make(chan error, 1)}
	m.Cmd = exec.Command(filepath.Join(dir, "vmm"), append([]string{"boot", "--json", "--control", m.control}, args...)...)
	m.Stdout, m.Stderr = &m.stdout, &m.stderr
	if m.input, err = m.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	m.Cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	m.watched.Go(func() { m.watch(stop) })
	go func() {
		err := m.Wait()
		close(stop)
		m.watched.Wait()
		m.ended <- err
	}()
	t.Cleanup(func() { _ = m.Process.Kill() })
	return m
}

// watch notes what the process takes of the host.
func (m *machine) watch(stop chan struct{}) {
	for {
		proc := fmt.Sprintf("/proc/%d/", m.Process.Pid)
		if text, err := os.ReadFile(proc + "status"); err == nil {
			for line := range strings.Lines(string(text)) {
				key, rest, _ := strings.Cut(line, ":")
				n, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
				switch key {
				case "VmHWM":
					m.rss = max(m.rss, n<<10)
				case "Threads":
					m.threads = max(m.threads, n)
				}
			}
		}
		if files, err := os.ReadDir(proc + "fd"); err == nil {
			m.files = max(m.files, len(files))
		}
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// await waits until the guest has written a text.
func (m *machine) await(t *testing.T, text string) {
	t.Helper()
	late := time.After(time.Minute)
	for !strings.Contains(m.stdout.String(), text) {
		select {
		case err := <-m.ended:
			t.Fatalf("vmm has ended (%v), and the guest never said %q; vmm says:\n%s", err, text, &m.stderr)
		case <-late:
			t.Fatalf("the guest has said %q, and never %q", &m.stdout, text)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// command runs a command of vmm's, and returns what it says.
func (m *machine) command(args ...string) ([]byte, error) {
	return exec.Command(m.Path, args...).CombinedOutput()
}

// report is what vmm says last of all, in JSON.
type report struct {
	Status     int
	Outcome    string
	Message    string
	EndSeconds float64 `json:"end_seconds"`
}

func (m *machine) report(t *testing.T) report {
	t.Helper()
	lines := m.lines()
	var r report
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the last line is %q: %v", lines[len(lines)-1], err)
	}
	return r
}

// signal sends a signal. It is an error that the process has ended.
func (m *machine) signal(s syscall.Signal) error { return m.Process.Signal(s) }

// end waits until the process has ended, and returns its status. One that does not
// end is shown with its goroutines, and killed.
func (m *machine) end(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case err := <-m.ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return m.ProcessState.ExitCode()
	case <-time.After(within):
	}
	_ = m.signal(syscall.SIGABRT)
	select {
	case <-m.ended:
	case <-time.After(5 * time.Second):
		_ = m.signal(syscall.SIGKILL)
		<-m.ended
	}
	t.Fatalf("vmm does not end within %v; it says:\n%s", within, &m.stderr)
	return -1
}

// lines are those that vmm wrote to standard error.
func (m *machine) lines() []string {
	return strings.Split(strings.TrimRight(m.stderr.String(), "\n"), "\n")
}

// deaf listens at a unix socket, takes connections, and never reads.
func deaf(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var all []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all = append(all, c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, c := range all {
			c.Close()
		}
	})
}
