package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmm/cmd/internal/start"
)

// programs builds programs as "make build" links them, in a folder.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		build := exec.Command("go", "build", "-ldflags", "-E vmm_entry", "-o", filepath.Join(dir, name), "vmm/cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return dir
}

// ignoredSignals are signals that a command is started to ignore.
const ignoredSignals = "HUP INT QUIT USR1 USR2 PIPE ALRM TERM"

// ignores is the set of signals that a process ignores. proc(5), SigIgn.
func ignores(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, set, _ := strings.Cut(string(text), "SigIgn:")
	set, _, _ = strings.Cut(set, "\n")
	return strconv.ParseUint(strings.TrimSpace(set), 16, 64)
}

// children are the processes that a process has started.
func children(t *testing.T, pid int) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		for word := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, child)
		}
	}
	return all
}

// In every command, a signal that it was started to ignore stays ignored. Each waits
// for somebody here, at the socket of a machine or at a pipe, and has come far by then.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	bin := programs(t, "vmm", "vmm-tools")
	var want uint64
	for name := range strings.FieldsSeq(ignoredSignals) {
		want |= 1 << (unix.SignalNum("SIG"+name) - 1)
	}
	dir := t.TempDir()
	socket, pipe := filepath.Join(dir, "socket"), filepath.Join(dir, "pipe")
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{pipe, filepath.Join(run, "results.json")} {
		if err := unix.Mkfifo(p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	commands := []string{
		"ctl SOCKET status", "top SOCKET", "explore SOCKET", "inspect memory-map SOCKET", "inspect symbols SOCKET",
		"inspect kernel PIPE", "inspect initrd PIPE", "timeline PIPE", "trace show PIPE", "image build --from tar PIPE -o image", "bench report run",
	}
	if os.Geteuid() == 0 {
		commands = append(commands, "bench install PIPE --assets assets")
	}
	if _, err := os.Stat("/dev/kvm"); err == nil {
		commands = append(commands, "boot --kernel PIPE", "trace --kernel PIPE", "explore -- --kernel PIPE")
	}
	for _, command := range commands {
		t.Run(command, func(t *testing.T) {
			line := strings.Fields(strings.NewReplacer("SOCKET", socket, "PIPE", pipe).Replace(command))
			args := append([]string{"-c", `trap "" ` + ignoredSignals + `; exec "$0" "$@"`, filepath.Join(bin, "vmm")}, line...)
			cmd := exec.Command("sh", args...)
			var said strings.Builder
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
			cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // to end its children, too
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			came := make(chan meeting, 1)
			go func() { came <- meet(l, command, pipe, filepath.Join(run, "results.json")) }()
			select {
			case m := <-came:
				if m.err != nil {
					t.Fatal(m.err)
				}
				defer m.Close()
			case err := <-ended:
				t.Fatalf("it ended: %v: %s", err, said.String())
			case <-time.After(time.Minute):
				t.Fatal("it has not come")
			}

			for _, pid := range append(children(t, cmd.Process.Pid), cmd.Process.Pid) {
				if got, err := ignores(pid); err != nil || got&want != want {
					t.Errorf("process %d ignores %#x, %v; want %#x of it", pid, got, err, want)
				}
			}
			if err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
}

// meeting is where a command has come to, and waits until that is closed.
type meeting struct {
	io.Closer
	err error
}

// meet waits for a command: at the socket, or at a pipe, which it opens for reading.
func meet(l net.Listener, command, pipe, results string) meeting {
	if strings.Contains(command, "SOCKET") {
		c, err := l.Accept()
		if err == nil && !strings.HasPrefix(command, "explore") { // which asks for nothing before somebody looks
			_, err = c.Read(make([]byte, 1))
		}
		return meeting{c, err}
	}
	if strings.HasPrefix(command, "bench report") {
		pipe = results
	}
	f, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	return meeting{f, err}
}

// A limit on memory under which Go's runtime would end is told before that, and not by
// the status of wrong usage.
func TestTooLittleMemory(t *testing.T) {
	bin := programs(t, "vmm")
	limits := map[string]string{"-v 300000": "address space", "-v 600000": "address space", "-v 1200000": "address space", "-d 60000": "data", "-d 131071": "data"}
	limits[fmt.Sprintf("-v %d", start.Space>>10-1)] = "address space"
	for limit, what := range limits {
		for _, line := range []string{"boot --kernel absent", "boot --debug-exit --kernel absent", "version", "image build", "--nonsense"} {
			cmd := exec.Command("sh", "-c", `ulimit `+limit+`; exec "$0" `+line, filepath.Join(bin, "vmm"))
			out, err := cmd.CombinedOutput()
			status := cmd.ProcessState.ExitCode()
			if status != start.NoMemory || !strings.HasPrefix(string(out), "vmm: the limit on this process's "+what) || strings.Count(string(out), "\n") != 1 {
				t.Errorf("ulimit %s, %s: %v, status %d: %s", limit, line, err, status, out)
			}
		}
	}
}
