package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmm/doctor"
)

// env is the value of a variable that run sets; without it there is nothing
// to test with.
func env(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		skip(t, name+" is not set: run tests/system/run")
	}
	return v
}

func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("VMM_REQUIRE_LAB") != "" && os.Getenv("VMM_BIN") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// result is what a run of vmm leaves behind.
type result struct {
	out    string // standard output: the guest's console
	err    string // standard error: the report
	status int
	report report
}

// report is what --json prints.
type report struct {
	Outcome string  `json:"outcome"`
	Message string  `json:"message"`
	Seconds float64 `json:"seconds"`
	Exits   uint64  `json:"exits"`
}

// inLab reports whether the host below is an emulated one.
func inLab() bool {
	vendor, err := os.ReadFile("/sys/class/dmi/id/sys_vendor")
	return err == nil && strings.HasPrefix(string(vendor), "QEMU")
}

// run runs vmm boot and expects an exit status.
func run(t testing.TB, want int, input *typed, args ...string) result {
	t.Helper()
	r := once(t, input, args...)
	if r.status != want {
		r.fail(t, fmt.Sprintf("exit status %d; want %d", r.status, want))
	}
	return r
}

// fail ends the test, with what there is to see of a machine; all of it is kept
// in files where VMM_FAILURES says.
func (r result) fail(t testing.TB, why string) {
	t.Helper()
	kept := ""
	if dir := os.Getenv("VMM_FAILURES"); dir != "" {
		path := filepath.Join(dir, strings.NewReplacer("/", ".", " ", "_").Replace(t.Name()))
		err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path+".console", []byte(r.out), 0o644), os.WriteFile(path+".report", []byte(r.err), 0o644))
		kept = fmt.Sprintf("\nall of both is in %s.console and .report", path)
		if err != nil {
			kept = "\n" + err.Error()
		}
	}
	t.Fatalf("%s\nstandard error: %s\nthe end of the console:\n%s%s", why, r.err, tail(r.out), kept)
}

// typed is input for the console, sent when the guest has written a word:
// before that nobody reads it, or the terminal edits it.
type typed struct {
	after, text string
}

func once(t testing.TB, input *typed, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, env(t, "VMM_BIN"), append([]string{"boot", "--json"}, args...)...)
	var stderr bytes.Buffer
	out := watcher{seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if input != nil {
		out.word = input.after
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			select {
			case <-out.seen:
				_, _ = io.WriteString(stdin, input.text) // fails when vmm ends early, which shows below
			case <-ctx.Done():
			}
		}()
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{out: out.text.String(), err: stderr.String(), status: cmd.ProcessState.ExitCode()}
	// The report is the last line, after the log.
	line := strings.TrimSpace(r.err)
	line = line[strings.LastIndexByte(line, '\n')+1:]
	if err := json.Unmarshal([]byte(line), &r.report); err != nil && r.status != 1 {
		t.Errorf("the report is not JSON: %v\n%s", err, r.err)
	}
	return r
}

// watcher collects what is written, and tells when a word has come.
type watcher struct {
	text bytes.Buffer
	word string
	seen chan struct{} // closed then
	told bool
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if !w.told && bytes.Contains(w.text.Bytes(), []byte(w.word)) {
		w.told = true
		close(w.seen)
	}
	return n, err
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// guest are the flags that boot a kernel and let it do something; quiet, for
// each character on the console is an exit.
func guest(kernel, initrd, do string, flags ...string) []string {
	args := append([]string{"--kernel", kernel, "--initrd", initrd, "--append", "quiet vmm.do=" + do}, flags...)
	return append(unless(flags, "--timeout", "60s"), args...)
}

// unless is a flag with a value, or nothing where flags have one already: vmm does
// not take two.
func unless(flags []string, name, value string) []string {
	if slices.Contains(flags, name) {
		return nil
	}
	return []string{name, value}
}

func TestMain(m *testing.M) {
	// The lab's doctor may find it slow, beside other work.
	if !inLab() && !doctor.Run().KernelModeNative {
		fmt.Println("this machine cannot boot Linux in KVM; tests/system/run uses the lab")
		if os.Getenv("VMM_BIN") != "" {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
