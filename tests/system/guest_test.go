package system

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vmm/control"
)

// transports runs a test with each transport of virtio devices.
func transports(t *testing.T, test func(t *testing.T, transport string)) {
	for _, transport := range []string{"pci", "mmio"} {
		t.Run(transport, func(t *testing.T) { test(t, transport) })
	}
}

// vm is a running vmm with a guest in it.
type vm struct {
	t       testing.TB
	cmd     *exec.Cmd
	input   io.Writer // of the guest's console
	out     screen    // the guest's console
	err     screen    // vmm's report
	ended   chan struct{}
	control string // the socket
}

// launch starts vmm boot. The words before it, if any, are a command that does.
func launch(t testing.TB, before []string, args ...string) *vm {
	t.Helper()
	return start(t, before, "boot", args...)
}

// start starts a command of vmm that runs a machine.
func start(t testing.TB, before []string, command string, args ...string) *vm {
	t.Helper()
	v := &vm{t: t, ended: make(chan struct{}), control: filepath.Join(t.TempDir(), "ctl")}
	args = append(append([]string{env(t, "VMM_BIN"), command, "--json", "--control", v.control}, unless(args, "--timeout", "15m")...), args...)
	args = append(before, args...)
	v.cmd = exec.Command(args[0], args[1:]...)
	v.cmd.Stdout, v.cmd.Stderr = &v.out, &v.err
	input, err := v.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.input = input
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = v.cmd.Wait() // the status is looked at elsewhere
		v.out.close()
		close(v.ended)
	}()
	t.Cleanup(func() { v.kill() })
	return v
}

// serve starts a guest that waits for commands in a Debian system: the action
// "serve" of the initramfs. Its first disk is that system.
func serve(t testing.TB, args ...string) *vm { return serveIn(t, nil, args...) }

// serveIn is serve by a command that starts vmm.
func serveIn(t testing.TB, before []string, args ...string) *vm {
	t.Helper()
	start := time.Now()
	v := launch(t, before, append([]string{
		"--kernel", env(t, "VMM_KERNEL_FULL") + "/vmlinuz", "--initrd", env(t, "VMM_INITRD_FULL"),
		"--disk", "path=" + env(t, "VMM_DEBIAN") + ",ro,serial=debian", "--append", serveWords,
	}, args...)...)
	v.await(`--- ready ---\n`, 0, shTimeout)
	t.Logf("%5.1f s to start", time.Since(start).Seconds())
	return v
}

// serveWords are the words of the kernel's command line for serve. An alert,
// such as an oops, goes to the console, and nothing less.
const serveWords = "loglevel=2 vmm.do=serve"

// shTimeout is how long a script may take.
const shTimeout = 5 * time.Minute

// sh runs a script in the guest, which must succeed, and returns what it
// writes. It and try take a format.
func (v *vm) sh(script string, args ...any) string {
	v.t.Helper()
	out, status := v.try(script, args...)
	if status != 0 {
		v.fail(fmt.Sprintf("%s\n%s\nstatus %d", fmt.Sprintf(script, args...), out, status))
	}
	return out
}

// try runs a script in the guest, and returns what it writes and its status.
func (v *vm) try(script string, args ...any) (out string, status int) {
	v.t.Helper()
	return v.result(v.begin(fmt.Sprintf(script, args...)))
}

// running is a script that a guest runs.
type running struct {
	script string
	from   int // where its output begins
	start  time.Time
}

// begin begins to run a script in the guest.
func (v *vm) begin(script string) running {
	v.t.Helper()
	r := running{script, v.out.len(), time.Now()}
	if _, err := io.WriteString(v.input, strconv.Quote(script)+"\n"); err != nil {
		v.fail(fmt.Sprintf("%s: %v", script, err))
	}
	return r
}

// result waits for the end of a script.
func (v *vm) result(r running) (out string, status int) {
	v.t.Helper()
	m := v.await(`(?s)(.*)\n--- status (-?\d+) ---\n`, r.from, shTimeout)
	status, _ = strconv.Atoi(m[2])
	first, _, more := strings.Cut(strings.TrimSpace(r.script), "\n")
	if more || len(first) > 80 {
		first = first[:min(len(first), 80)] + " ..."
	}
	v.t.Logf("%5.1f s %s", time.Since(r.start).Seconds(), first)
	return strings.TrimSpace(m[1]), status
}

// await waits for something on the console, behind a position.
func (v *vm) await(pattern string, from int, timeout time.Duration) []string {
	v.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(timeout)
	for {
		text, more := v.out.after(from)
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-more:
		case <-v.ended:
			if m := re.FindStringSubmatch(v.out.textFrom(from)); m != nil {
				return m
			}
			v.fail("vmm has ended")
		case <-deadline:
			v.fail(fmt.Sprintf("nothing like %q on the console in %v", pattern, timeout))
		}
	}
}

// fail ends the test, with what there is to see.
func (v *vm) fail(why string) {
	v.t.Helper()
	v.stop(syscall.SIGTERM).fail(v.t, why)
}

// stop sends vmm a signal and waits for its end.
func (v *vm) stop(signal syscall.Signal) result {
	_ = v.cmd.Process.Signal(signal) // it may have ended
	return v.wait(20 * time.Second)
}

// kill ends vmm at once, as a crash of it would.
func (v *vm) kill() result { return v.stop(syscall.SIGKILL) }

// wait waits for the end of vmm.
func (v *vm) wait(timeout time.Duration) result {
	v.t.Helper()
	select {
	case <-v.ended:
	case <-time.After(timeout):
		_ = v.cmd.Process.Kill()
		<-v.ended
		v.t.Errorf("vmm has not ended in %v", timeout)
	}
	r := result{out: v.out.textFrom(0), err: v.err.textFrom(0), status: v.cmd.ProcessState.ExitCode()}
	line := strings.TrimSpace(r.err)
	_ = json.Unmarshal([]byte(line[strings.LastIndexByte(line, '\n')+1:]), &r.report)
	return r
}

// powerOff has the guest power off.
func (v *vm) powerOff() result {
	v.t.Helper()
	_, _ = io.WriteString(v.input, "\n")
	select {
	case <-v.ended:
	case <-time.After(time.Minute):
		v.fail("the guest does not power off")
	}
	r := v.wait(time.Minute)
	if r.status != 0 || r.report.Outcome != "power-off" {
		v.fail(fmt.Sprintf("exit status %d, %s", r.status, r.report.Outcome))
	}
	return r
}

// ctl runs vmm ctl.
func (v *vm) ctl(args ...string) string {
	v.t.Helper()
	out, err := exec.Command(env(v.t, "VMM_BIN"), append([]string{"ctl", v.control}, args...)...).CombinedOutput()
	if err != nil {
		v.fail(fmt.Sprintf("vmm ctl %s: %v\n%s", strings.Join(args, " "), err, out))
	}
	return string(out)
}

// status is what vmm ctl status says.
func (v *vm) status() control.Status {
	v.t.Helper()
	var s control.Status
	if err := json.Unmarshal([]byte(v.ctl("status")), &s); err != nil {
		v.t.Fatal(err)
	}
	return s
}

// screen collects what is written to it.
type screen struct {
	mu   sync.Mutex
	text []byte
	more chan struct{} // closed when there is more text; nil while nobody waits
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	s.wake()
	return len(p), nil
}

func (s *screen) wake() {
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
}

func (s *screen) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake()
}

func (s *screen) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.text)
}

// after is the text behind a position, and a channel that is closed when there
// is more.
func (s *screen) after(from int) (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more == nil {
		s.more = make(chan struct{})
	}
	return string(s.text[from:]), s.more
}

func (s *screen) textFrom(from int) string {
	text, _ := s.after(from)
	return text
}

// freePort is a TCP port of the loopback that nobody listens at.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// host runs a command on the host, which must succeed, and returns what it
// writes.
func host(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// shExits is how many exits a script costs at the most that is typed, runs
// quietly and ends: the console takes a few for each character.
const shExits = 5000
