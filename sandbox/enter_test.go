package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also the process that is caged: with TEST_CAGED, a JSON object of type
// caged in its environment.
func TestMain(m *testing.M) {
	text := os.Getenv("TEST_CAGED")
	if text == "" {
		os.Exit(m.Run())
	}
	var c caged
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	if _, err := Enter(c.Mode, c.Needs); err != nil {
		fmt.Println("enter:", err)
		os.Exit(4)
	}
	done := make(chan string)
	go func() { done <- c.act() }() // perhaps on another thread than Enter's
	fmt.Println(<-done)
}

// caged is what a process does in its cage.
type caged struct {
	Mode  Mode
	Needs Needs
	Act   string
	Path  string
}

func (c caged) act() string {
	switch c.Act {
	case "read":
		fd, err := unix.Openat(unix.AT_FDCWD, c.Path, unix.O_RDONLY, 0)
		if err == nil {
			unix.Close(fd)
		}
		return fmt.Sprint(err)
	case "make":
		fd, err := unix.Openat(unix.AT_FDCWD, c.Path, unix.O_CREAT|unix.O_WRONLY, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return fmt.Sprint(err)
	case "mount":
		return fmt.Sprint(unix.Mount("a", "/", "tmpfs", 0, ""))
	case "wait": // to be looked at
		_, _ = os.Stdin.Read(make([]byte, 1))
		return "over"
	}
	return "what?"
}

// start is a process in its cage.
func start(t *testing.T, c caged) *exec.Cmd {
	t.Helper()
	if missing := Missing(); missing != nil {
		t.Skip(missing)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "TEST_CAGED="+string(text))
	return cmd
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ours", "theirs", "shown"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "file"), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../theirs/file", filepath.Join(dir, "ours/link")); err != nil {
		t.Fatal(err)
	}
	needs := Needs{Groups: Share, Folders: []Folder{{filepath.Join(dir, "ours"), false}, {filepath.Join(dir, "shown"), true}}}
	const no = "permission denied"
	for _, tt := range []struct{ act, path, want string }{
		{"read", "ours/file", "<nil>"},
		{"make", "ours/new", "<nil>"},
		{"read", "shown/file", "<nil>"},
		{"make", "shown/new", no},
		{"read", "theirs/file", no},
		{"make", "theirs/new", no},
		{"read", "ours/link", no}, // the link may be read, and what it leads to not
		{"read", "ours/../theirs/file", no},
		{"read", "/etc/shadow", no},
		{"read", "/proc/self/mem", no},
	} {
		path := tt.path
		if !filepath.IsAbs(path) {
			path = dir + "/" + path
		}
		out, err := start(t, caged{Strict, needs, tt.act, path}).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != tt.want {
			t.Errorf("%s %s: %v, %q; want %q", tt.act, tt.path, err, out, tt.want)
		}
	}
}

// A refused call ends a process that nobody else ends, in a line and with status 1.
func TestRefused(t *testing.T) {
	cmd := start(t, caged{Mode: Strict, Act: "mount"})
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v, want status 1", err)
	}
	if got, want := stderr.String(), "vmm: "+Refusal("mount")+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Every thread is in the cage.
func TestThreads(t *testing.T) {
	cmd := start(t, caged{Mode: Strict, Act: "wait"})
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The process reads at least once when it is caged.
	waitFor(t, fmt.Sprintf("/proc/%d/status", cmd.Process.Pid), "Seccomp:\t2")
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
	if err != nil || len(threads) < 2 {
		t.Fatalf("threads: %v, %v", threads, err)
	}
	for _, thread := range threads {
		status, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapEff:\t0000000000000000\n", "CapPrm:\t0000000000000000\n", "CapInh:\t0000000000000000\n"} {
			if !strings.Contains(string(status), want) {
				t.Errorf("%s has no %q", thread, want)
			}
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err != nil || !strings.Contains(string(limits), "Max core file size        0                    0 ") {
		t.Errorf("limits: %v\n%s", err, limits)
	}
	in.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(out); err != nil || text.String() != "over\n" {
		t.Errorf("%q, %v", &text, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// waitFor waits until a file of the kernel's says something.
func waitFor(t *testing.T, path, want string) {
	t.Helper()
	for {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), want) {
			return
		}
	}
}

func TestOff(t *testing.T) {
	c, err := Enter(Off, Needs{})
	if err != nil || len(c.Layers) != 0 || len(c.Calls) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}
