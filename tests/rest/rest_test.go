package rest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// built is the path of the service in a language.
func built(t testing.TB, language string) string {
	t.Helper()
	cmd := exec.Command("../../guest-images/app/build", language)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// start runs a service that gives its clients so many seconds, with attributes
// of the process, and returns its address.
func start(t testing.TB, program, seconds string, attr *syscall.SysProcAttr) (addr string, cmd *exec.Cmd) {
	t.Helper()
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(addr)
	cmd = exec.Command(program, port, seconds)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if want := fmt.Sprintf("rest: listening on port %s\n", port); line != want {
		t.Fatalf("it says %q, %v; want %q", line, err, want)
	}
	return addr, cmd
}

var languages = []string{"go", "c"}

func TestConform(t *testing.T) {
	for _, language := range languages {
		t.Run(language, func(t *testing.T) {
			addr, _ := start(t, built(t, language), "60", nil)
			Conform(t, addr, Full)
		})
	}
}

// A client that is too slow is let go of: one that says nothing, one in the
// middle of a request, one that trickles, and one that does not read.
func TestTimeout(t *testing.T) {
	for _, language := range languages {
		t.Run(language, func(t *testing.T) {
			addr, _ := start(t, built(t, language), "1", nil)
			begun := time.Now()
			silent, half, idle := dial(t, addr), dial(t, addr), dial(t, addr)
			half.send("GET / HT")
			idle.send(get("/"))
			idle.receive("GET")
			for _, c := range []*client{silent, half, idle} {
				if err := c.SetReadDeadline(begun.Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				// What comes before the end, if anything, is a refusal.
				rest, err := io.ReadAll(c.in)
				if e, ok := err.(net.Error); ok && e.Timeout() || strings.Contains(string(rest), " 200 ") {
					t.Errorf("a slow client: %q, %v", rest, err)
				}
			}

			trickle := dial(t, addr)
			begun = time.Now()
			for err := error(nil); err == nil; time.Sleep(50 * time.Millisecond) {
				_, err = trickle.Write([]byte("x"))
				if time.Since(begun) > 10*time.Second {
					t.Fatal("a client that trickles is served for ever")
				}
			}
		})
	}
}

// The service ends when it is told to, the first process of a PID namespace too:
// that one has no signal that ends it by itself. Where the namespace is its own
// it may switch the machine off, for which the kernel ends it with SIGINT, see
// reboot(2).
func TestEnd(t *testing.T) {
	first := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
	}
	for _, language := range languages {
		for name, attr := range map[string]*syscall.SysProcAttr{"process": nil, "first process": first} {
			t.Run(language+" "+name, func(t *testing.T) {
				addr, cmd := start(t, built(t, language), "60", attr)
				c := dial(t, addr)
				c.send(get("/"))
				c.receive("GET")
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				err := cmd.Wait()
				status := cmd.ProcessState.Sys().(syscall.WaitStatus)
				if err != nil && !(attr == first && status.Signaled() && status.Signal() == syscall.SIGINT) {
					t.Errorf("it ended with %v", err)
				}
				c.expectEnd()
			})
		}
	}
}

func TestUsage(t *testing.T) {
	for _, language := range languages {
		for _, argument := range []string{"x", "0", "-1"} {
			out, err := exec.Command(built(t, language), argument).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "usage: rest") {
				t.Errorf("%s %s: %v, %q", language, argument, err, out)
			}
		}
	}
}
