package system

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runFor is how long a machine of an image may take on an emulated host.
const runFor = 3 * time.Minute

// busyboxImage writes an archive as 'docker save' does, with busybox in it.
func busyboxImage(t *testing.T) string {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	add := func(h tar.Header, contents string) {
		h.Size = int64(len(contents))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, contents); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, string(busybox))
	for _, name := range []string{"sh", "id", "cat", "echo", "httpd", "sleep", "stat", "stty", "hostname", "ls", "pwd", "true", "env"} {
		add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeLink, Linkname: "bin/busybox"}, "")
	}
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n")
	add(tar.Header{Name: "etc/group", Mode: 0o644}, "root:x:0:\nme:x:1000:\nextra:x:2000:me\n")
	add(tar.Header{Name: "srv/index.html", Mode: 0o644}, "hello from the image\n")
	add(tar.Header{Name: "home/me/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 1000, Gid: 1000}, "")
	add(tar.Header{Name: "far", Mode: 0o4750, Uid: 100_000, Gid: 200_000, Format: tar.FormatPAX}, "far")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "amd64",
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer.Bytes()))}},
		"config": map[string]any{"Cmd": []string{"sh", "-c", "echo default"}, "Env": []string{"PATH=/bin", "A=from the image"}, "WorkingDir": "/home/me"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	w = tar.NewWriter(&all)
	add(tar.Header{Name: "manifest.json", Mode: 0o644}, `[{"Config":"config.json","Layers":["layer.tar"]}]`)
	add(tar.Header{Name: "config.json", Mode: 0o644}, string(config))
	add(tar.Header{Name: "layer.tar", Mode: 0o644}, layer.String())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "busybox.tar")
	if err := os.WriteFile(path, all.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// images is a user of 'vmm run' with folders of its own.
type images struct {
	t   *testing.T
	env []string
}

func newImages(t *testing.T) images {
	t.Helper()
	dir := t.TempDir()
	return images{t, append(os.Environ(), "XDG_CACHE_HOME="+dir+"/cache", "XDG_STATE_HOME="+dir+"/state")}
}

// vmm runs a command of vmm's.
func (i images) vmm(stdin string, args ...string) (out, errs string, status int) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runFor)
	defer cancel()
	if args[0] == "run" {
		args = append([]string{"run", "--kernel", env(i.t, "VMM_KERNEL_FULL") + "/vmlinuz", "--modules", env(i.t, "VMM_RUN_MODULES")}, args[1:]...)
	}
	cmd := exec.CommandContext(ctx, env(i.t, "VMM_BIN"), args...)
	var o, e strings.Builder
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = i.env, strings.NewReader(stdin), &o, &e
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		i.t.Fatalf("vmm %v: %v", args, err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// A container image runs as a machine: its program with what it is to have, its
// output, its status.
func TestRunImage(t *testing.T) {
	image, i := busyboxImage(t), newImages(t)
	volume := t.TempDir()
	if err := os.WriteFile(volume+"/from-host", []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, stdin string
		args        []string
		out, errs   string
		status      int
	}{
		{"the image's command", "", []string{image}, "default\n", "", 0},
		{"streams and status", "", []string{image, "sh", "-c", "echo out; echo err >&2; pwd; echo $A; exit 7"}, "out\n/home/me\nfrom the image\n", "err\n", 7},
		{"input", strings.Repeat("line\n", 10_000), []string{"-i", image, "cat"}, strings.Repeat("line\n", 10_000), "", 0},
		{"a user", "", []string{"-u", "me", "-e", "A=b c", "-w", "/srv", image, "sh", "-c", `id; echo "$A $HOME"; pwd`}, "uid=1000(me) gid=1000(me) groups=1000(me),2000(extra)\nb c /home/me\n/srv\n", "", 0},
		{"files", "", []string{image, "stat", "-c", "%n %a %u %g %h", "/far", "/bin/sh", "/home/me"}, "/far 4750 100000 200000 1\n/bin/sh 755 0 0 14\n/home/me 700 1000 1000 2\n", "", 0},
		{"a signal", "", []string{image, "sh", "-c", "kill -TERM $$"}, "", "", 143},
		{"a volume", "", []string{"-v", volume + ":/data", "-v", volume + ":/ro:ro", image, "sh", "-c", "cat /data/from-host; echo made >/data/from-guest; echo x >/ro/x || echo refused"}, "hererefused\n", "", 0},
		{"a terminal", "", []string{"-t", image, "sh", "-c", "stty size; tty=yes; echo $TERM"}, "24 80\r\nxterm\r\n", "", 0},
		{"not in the image", "", []string{image, "nosuch"}, "", `"nosuch" is not in the image`, 127},
		{"no network", "", []string{"--network", "none", "--hostname", "box", image, "sh", "-c", "ls /sys/class/net; hostname"}, "lo\nbox\n", "", 0},
	}
	for n, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i.t = t
			out, errs, status := i.vmm(tt.stdin, append([]string{"run"}, tt.args...)...)
			if n > 0 && strings.Contains(errs, "making a file system") {
				t.Error("the image was converted again")
			}
			if out != tt.out || !strings.Contains(errs, tt.errs) || status != tt.status {
				t.Errorf("%.300q, %q, status %d; want %.300q, %q, %d", out, errs, status, tt.out, tt.errs, tt.status)
			}
		})
	}
	if text, err := os.ReadFile(volume + "/from-guest"); string(text) != "made\n" {
		t.Errorf("the volume has %q, %v", text, err)
	}
}

// A detached machine serves at its port, takes further programs, and ends when it is
// asked to; what it said stays until it is removed.
func TestDetachedImage(t *testing.T) {
	image, i := busyboxImage(t), newImages(t)
	out, errs, status := i.vmm("", "run", "-d", "--name", "web", "-p", "127.0.0.1:18080:80", image, "sh", "-c",
		"trap 'echo asked; exit 0' TERM; httpd -p 80 -h /srv; echo serving; while :; do sleep 0.2; done")
	if status != 0 || len(strings.TrimSpace(out)) != 12 {
		t.Fatalf("run -d: %q, %q, %d", out, errs, status)
	}
	var text []byte
	for end := time.Now().Add(runFor); len(text) == 0 && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if response, err := http.Get("http://127.0.0.1:18080/"); err == nil {
			text, _ = io.ReadAll(response.Body)
			response.Body.Close()
		}
	}
	if string(text) != "hello from the image\n" {
		t.Errorf("at its port: %q", text)
	}
	if out, errs, status := i.vmm("some input", "exec", "-i", "web", "sh", "-c", "cat; echo $A; exit 5"); out != "some inputfrom the image\n" || status != 5 {
		t.Errorf("exec: %q, %q, %d", out, errs, status)
	}
	if out, _, _ := i.vmm("", "ps"); !strings.Contains(out, "web") || !strings.Contains(out, "running") {
		t.Errorf("ps: %q", out)
	}
	if out, errs, status := i.vmm("", "stop", "-t", "60", "web"); status != 0 {
		t.Errorf("stop: %q, %q, %d", out, errs, status)
	}
	if out, _, _ := i.vmm("", "logs", "web"); out != "serving\nasked\n" {
		t.Errorf("logs: %q", out)
	}
	if out, _, _ := i.vmm("", "ps", "--all"); !strings.Contains(out, "ended (0)") {
		t.Errorf("ps --all: %q", out)
	}
	if out, errs, status := i.vmm("", "rm", "web"); status != 0 {
		t.Errorf("rm: %q, %q, %d", out, errs, status)
	}
	if out, _, _ := i.vmm("", "ps", "--all"); strings.Contains(out, "web") {
		t.Errorf("ps --all: %q", out)
	}
}
