package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// environment is all that a program which the bench starts has in its environment.
// This process's own may hold passwords, which engines would hand on to containers.
//
//	PATH  that of this process: where programs are found
//	HOME  a folder that is not there: no settings of the user's
//	LANG  for messages that do not depend on the user
func environment(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LANG=C.UTF-8"}, more...)
}

// caches are variables for programs of this project, which find there what they have
// prepared: an unpacked kernel, a compiled library.
func caches() []string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil
	}
	return []string{"XDG_CACHE_HOME=" + dir}
}

// Command is a program to start, with the environment of the bench.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = environment()
	return cmd
}

// call runs a program that ends by itself, and returns the end of what it has said.
func call(args ...string) (string, error) { return callCommand(Command(context.Background(), args...)) }

func callCommand(cmd *exec.Cmd) (string, error) {
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	text := strings.TrimSpace(string(out.bytes()))
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Args[0]), err, text)
	}
	return text, nil
}

// tail keeps the end of what is written to it: an instance may say as much as it
// likes.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// kept is how much a tail keeps, in bytes.
const kept = 4096

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[max(0, len(p)-kept):]...)
	if over := len(t.text) - kept; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.text)
}

// follow takes what comes through a pipe, until all that could write to it have
// ended.
func (t *tail) follow(pipe io.ReadCloser) {
	defer pipe.Close()
	_, _ = io.CopyBuffer(t, struct{ io.Reader }{pipe}, make([]byte, 16<<10))
}

// last is the last lines, to be added to a message.
func (t *tail) last() string {
	const most = 400
	text := bytes.TrimSpace(t.bytes())
	if len(text) == 0 {
		return ""
	}
	if len(text) > most {
		text = append([]byte("..."), text[len(text)-most:]...)
	}
	return ": " + strings.Join(strings.Fields(string(text)), " ")
}
