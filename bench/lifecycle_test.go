package bench_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/google/go-containerregistry/pkg/name"

	"golang.org/x/sys/unix"

	"vmm/bench/result"
)

// The folder with the programs, for all tests.
var built struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	status := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(status)
}

// program is the path of vmm, with vmm's other programs beside it: those of $VMM_BIN,
// or built.
func program(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("measuring takes root")
	}
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "bench-test-"); built.err != nil {
			return
		}
		for name, from := range map[string][2]string{
			"vmm":       {"vmm/cmd/vmm", "-E vmm_entry"},
			"vmm-tools": {"vmm/cmd/vmm-tools", "-E vmm_entry"},
			"vmm-init":  {"vmm/guest-images/init", ""},
		} {
			if bin := os.Getenv("VMM_BIN"); bin != "" {
				built.err = errors.Join(built.err, os.Symlink(filepath.Join(filepath.Dir(bin), name), filepath.Join(built.dir, name)))
			} else {
				built.err = errors.Join(built.err, compile(name, from[1], from[0]))
			}
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "vmm")
}

// compile builds a program in the folder.
func compile(out, ldflags, pkg string) error {
	cmd := exec.Command("go", "build", "-o", filepath.Join(built.dir, out), "-ldflags", ldflags, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", cmd, err, text)
	}
	return nil
}

// service is the path of a service that behaves as told: fine, silent...
func service(t *testing.T, mode string) string {
	t.Helper()
	path := filepath.Join(built.dir, "service-"+mode)
	if _, err := os.Stat(path); err != nil {
		if err := compile("service-"+mode, "-X main.mode="+mode, "./testdata/service"); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// assets makes a folder in which the two built-in applications are services that
// behave as told.
func assets(t *testing.T, goMode, cMode string) string {
	t.Helper()
	dir := t.TempDir()
	for app, mode := range map[string]string{"rest-go": goMode, "rest-c": cMode} {
		text, err := os.ReadFile(service(t, mode))
		if err != nil {
			t.Fatal(err)
		}
		root := filepath.Join(dir, "container", app)
		for _, d := range []string{root + "/proc", root + "/sys", root + "/dev", filepath.Join(dir, "app")} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range []string{filepath.Join(root, "app"), filepath.Join(dir, "app", app)} {
			if err := os.WriteFile(path, text, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// traces are what a run might leave on the host.
func traces(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{
		"/sys/fs/cgroup/vmm-bench-*", "/sys/fs/cgroup/unified/vmm-bench-*", "/tmp/vmm-bench-*", "/sys/kernel/tracing/instances/vmm-bench-*",
		"/run/runc/bench-*", "/run/crun/bench-*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		all = append(all, "mount "+strings.Fields(line)[1])
	}
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		all = append(all, "network device "+d.Name)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		if text, _ := os.ReadFile(p); bytes.Contains(text, []byte(built.dir)) || bytes.Contains(text, []byte("bench-")) && bytes.Contains(text, []byte("--bundle")) || bytes.Contains(text, []byte("198.18.")) {
			all = append(all, "process "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return all
}

// leavesNothing fails the test if it leaves something on the host.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := traces(t)
	t.Cleanup(func() { expectTraces(t, before) })
}

// expectTraces fails the test if there is more on the host than before.
func expectTraces(t *testing.T, before []string) {
	t.Helper()
	expectSoon(t, "left behind", func(x string) bool { return !slices.Contains(before, x) })
}

// expectSoon fails the test if there are still traces of a kind when the kernel
// has had time to end what was killed.
func expectSoon(t *testing.T, what string, kind func(string) bool) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left = slices.DeleteFunc(traces(t), func(x string) bool { return !kind(x) })
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	t.Errorf("%s: %s", what, strings.Join(left, "; "))
}

// quick are flags for a run of seconds.
var quick = []string{"-n", "1", "--seconds", "0.3", "--rates", "20", "--density", "3"}

// measure runs 'vmm bench run' and returns the results, and what it said.
func measure(t *testing.T, assets string, args ...string) (*result.Run, string) {
	t.Helper()
	return measureTo(t, 0, assets, args...)
}

// measureTo is measure for a run that ends with a given exit status.
func measureTo(t *testing.T, want int, assets string, args ...string) (*result.Run, string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if !slices.Contains(args, "--timeout") {
		args = append(args, "--timeout", "5s")
	}
	cmd := exec.Command(program(t), append(append([]string{"bench", "run", "--assets", assets, "-o", out}, quick...), args...)...)
	said, err := cmd.CombinedOutput()
	if status := cmd.ProcessState.ExitCode(); status != want {
		t.Fatalf("%v: %v; want exit status %d\n%s", cmd, err, want, said)
	}
	run, err := result.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	return run, string(said)
}

func TestEveryDriverStartsAndLeavesNothing(t *testing.T) {
	program(t)
	leavesNothing(t)
	// The port of the application is in use on the host, and nobody minds.
	if l, err := net.Listen("tcp", ":8080"); err == nil {
		defer l.Close()
	}
	run, said := measure(t, assets(t, "fine", "fine"), "--suite", "start,density,isolation", "--parallel", "1,2", "--runtimes", "process,runc,crun,unikernel-container,firecracker")
	if !run.Complete {
		t.Error("not complete")
	}
	for _, f := range run.Failures {
		// The filter of this one is made for the real application.
		if f.Runtime != "unikernel-container" {
			t.Errorf("%s: %s", f.Trial, f.Message)
		}
	}
	for _, s := range run.Subjects {
		switch {
		case s.Runtime == "firecracker" && s.Missing == "":
			t.Logf("firecracker is installed here")
		case s.Runtime == "firecracker":
			if !strings.Contains(s.Missing, "github.com/firecracker-microvm") || !strings.Contains(said, "firecracker (rest-c): not measured: ") {
				t.Errorf("firecracker: %q does not say how to get it, or the table does not", s.Missing)
			}
		case s.Runtime == "unikernel-container":
		case s.Missing != "":
			t.Errorf("%s: missing: %s", s.Name(), s.Missing)
		default:
			if n := len(run.Values("start", s, "http", 2)); n != 2 {
				t.Errorf("%s: %d starts of two at once have a time, want 2", s.Name(), n)
			}
			for suite, metric := range map[string]string{"start": "stop", "density": "density_limit", "isolation": "capabilities"} {
				if len(run.Values(suite, s, metric, -1)) == 0 {
					t.Errorf("%s: no %s", s.Name(), metric)
				}
			}
		}
	}
}

func TestBrokenApplicationsAreRows(t *testing.T) {
	program(t)
	tests := map[string]struct {
		suite, message string
	}{
		"silent":  {"start", "not ready within"},
		"ends":    {"start", "cannot find my configuration"},
		"refuses": {"start", "status 503, not 200"},
		"dies":    {"rest", "ended while it was measured"},
	}
	for mode, tt := range tests {
		t.Run(mode, func(t *testing.T) {
			leavesNothing(t)
			run, said := measure(t, assets(t, mode, "fine"), "--suite", tt.suite, "--runtimes", "process,crun", "--parallel", "1", "--timeout", "2s")
			for _, s := range run.Subjects {
				var messages []string
				for _, f := range run.Failures {
					if f.Runtime == s.Runtime && f.App == s.App {
						messages = append(messages, f.Message)
					}
				}
				metric := map[string]string{"start": "http", "rest": "requests"}[tt.suite]
				switch {
				case s.App == "rest-go" && !strings.Contains(strings.Join(messages, "\n"), tt.message):
					t.Errorf("%s: messages %q, want one with %q", s.Name(), messages, tt.message)
				case s.App == "rest-go" && !strings.Contains(said, tt.message):
					t.Errorf("the table does not say %q:\n%s", tt.message, said)
				case s.App == "rest-c" && len(run.Values(tt.suite, s, metric, -1)) == 0:
					t.Errorf("%s: the rest did not go on: %q", s.Name(), messages)
				}
			}
		})
	}
}

// start begins a long run, and waits until something was measured. SIGTERM is
// ignored, as in what a shell has started so.
func start(t *testing.T, assets, out, runtimes string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", `trap "" TERM; exec "$0" "$@"`,
		program(t), "bench", "run", "--assets", assets, "-o", out, "--suite", "start", "--runtimes", runtimes, "--app", "rest-c", "-n", "40", "--parallel", "1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if text, _ := os.ReadFile(filepath.Join(out, result.CSVFile)); bytes.Count(text, []byte(",done,")) >= 3 {
			return cmd
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			t.Fatal("nothing was measured within two minutes")
		}
	}
}

func TestInterruptedAndResumed(t *testing.T) {
	program(t)
	leavesNothing(t)
	dir, out := assets(t, "fine", "fine"), filepath.Join(t.TempDir(), "out")
	cmd := start(t, dir, out, "process,crun")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil || !regexp.MustCompile(`SigIgn:\s[0-9a-f]*[4-7c-f][0-9a-f]{3}\n`).Match(status) {
		t.Errorf("SIGTERM is not ignored any more: %v\n%s", err, status)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the status of an interrupted run is 0")
	}
	half, err := result.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	if half.Complete || len(half.Samples) == 0 {
		t.Fatalf("interrupted: complete %v with %d samples, want some and not complete", half.Complete, len(half.Samples))
	}

	again := exec.Command(program(t), "bench", "run", "--assets", dir, "-o", out, "--suite", "start", "--runtimes", "process,crun", "--app", "rest-c", "-n", "40", "--parallel", "1")
	if said, err := again.CombinedOutput(); err == nil || !strings.Contains(string(said), "--resume") {
		t.Errorf("without --resume, err %v: %s", err, said)
	}
	again = exec.Command(again.Path, append(again.Args[1:], "--resume")...)
	if said, err := again.CombinedOutput(); err != nil {
		t.Fatalf("--resume: %v: %s", err, said)
	}
	whole, err := result.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range whole.Subjects {
		if n := len(whole.Values("start", s, "http", 1)); n != 40 {
			t.Errorf("%s: %d starts after resuming, want 40, each once", s.Name(), n)
		}
	}
	if !whole.Complete || !slices.Contains(whole.Samples, half.Samples[0]) {
		t.Error("resumed: not complete, or what was measured first is gone")
	}
}

func TestKilledLeavesOnlyWhatTheNextRunRemoves(t *testing.T) {
	program(t)
	leavesNothing(t)
	dir, out := assets(t, "fine", "fine"), filepath.Join(t.TempDir(), "out")
	cmd := start(t, dir, out, "process,crun")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	expectSoon(t, "left after kill -9", func(x string) bool { return strings.HasPrefix(x, "process ") })
	measure(t, dir, "--suite", "start", "--runtimes", "process", "--parallel", "1")
}

// container writes a container image with one file, whose command is given. It serves
// only if it is started as the image wants it.
func container(t *testing.T, file, command string) string {
	t.Helper()
	return containerOf(t, "user", file, v1.Config{Cmd: []string{command}, Env: []string{`QUOTED=a "b" c`}, User: "12:34", WorkingDir: "/srv"})
}

// containerOf is an image with a service that behaves as told, its configuration, and
// more files before that.
func containerOf(t *testing.T, mode, file string, config v1.Config, more ...tar.Header) string {
	t.Helper()
	text, err := os.ReadFile(service(t, mode))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range more {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o755, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		config.Env = append(config.Env, "PATH=/bin:/srv")
		img, err = mutate.Config(img, config)
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "my-image.tar")
	tag, err := name.NewTag("my/image:1")
	if err == nil {
		err = tarball.WriteToFile(path, tag, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImage(t *testing.T) {
	program(t)
	leavesNothing(t)
	run, _ := measure(t, t.TempDir(), "--image", container(t, "srv/service", "service"), "--ready", "http://:8080/", "--suite", "start", "--runtimes", "process,crun", "--parallel", "1")
	crun := result.Subject{Runtime: "crun", App: "my-image"}
	if n := len(run.Values("start", crun, "http", 1)); n != 1 {
		t.Errorf("crun with the image: %d starts, want 1; failures: %+v", n, run.Failures)
	}
}

// installed tells whether all of some programs are here.
func installed(programs ...string) bool {
	return !slices.ContainsFunc(programs, func(program string) bool { _, err := exec.LookPath(program); return err != nil })
}

// An image whose names lead out of it is measured as any other, and what it names is
// its own. It runs as its user, behind a filter, knows nothing of root's environment,
// and chooses nothing for the engine: not by a label, not by a word of its command.
func TestHostileImage(t *testing.T) {
	program(t)
	leavesNothing(t)
	runtimes := "crun,runc"
	if installed("docker", "dockerd") {
		runtimes += ",docker"
	}
	// Podman raises limits: capabilities(7), CAP_SYS_RESOURCE.
	if may, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0); installed("podman") && may == 1 && err == nil {
		runtimes += ",podman"
	}
	t.Setenv("VMM_TEST_SECRET", "the test's secret")
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "vmlinuz"), []byte("the host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := containerOf(t, "modest", "srv/service", v1.Config{
		Cmd:        []string{"service", "--privileged", "--volume=" + host + ":/host", "-e", "VMM_TEST_SECRET"},
		User:       "12:34",
		WorkingDir: "/opt/vmm-test-cwd/x",
		Env:        []string{"VMM_TEST_SECRET", "*", "VMM_*", "=VMM_TEST_SECRET", "--privileged=true", "A=\n--env-host", "LD_PRELOAD=" + host + "/x.so", "HOME=" + host},
		Labels: map[string]string{
			"io.podman.annotations.privileged": "TRUE", "io.podman.annotations.seccomp": "unconfined", "run.oci.handler": "krun",
			"run.oci.hooks.stderr": host + "/made", "run.oci.mount_context_type": "none", "org.criu.config": host + "/vmlinuz",
			"io.containers.capabilities": "SYS_ADMIN", "io.kubernetes.cri-o.Devices": "/dev/kvm", "io.katacontainers.config.hypervisor.path": host + "/vmlinuz",
		},
		Volumes:      map[string]struct{}{"/evil": {}, host: {}},
		ExposedPorts: map[string]struct{}{"1/tcp": {}},
		StopSignal:   "SIGSTOP",
	},
		tar.Header{Name: "evil", Typeflag: tar.TypeSymlink, Linkname: host},
		tar.Header{Name: "evil/made", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "cwd", Typeflag: tar.TypeSymlink, Linkname: "/opt/vmm-test-cwd"},
		tar.Header{Name: "cwd/x/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "dev", Typeflag: tar.TypeSymlink, Linkname: host},
		tar.Header{Name: "run", Typeflag: tar.TypeSymlink, Linkname: host},
		tar.Header{Name: "etc/hosts", Typeflag: tar.TypeSymlink, Linkname: host + "/vmlinuz"},
		tar.Header{Name: "etc/resolv.conf", Typeflag: tar.TypeSymlink, Linkname: host + "/vmlinuz"},
		tar.Header{Name: "etc/passwd", Typeflag: tar.TypeSymlink, Linkname: host + "/vmlinuz"},
		tar.Header{Name: "x\n/etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "x\n/etc/shadow", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 7, Devminor: 0, Mode: 0o666},
	)
	run, said := measure(t, t.TempDir(), "--image", path, "--ready", "http://:8080/", "--suite", "start,isolation", "--runtimes", runtimes, "--parallel", "1", "--timeout", "2m")
	for _, s := range run.Subjects {
		if n := len(run.Values("start", s, "http", 1)); n != 1 {
			t.Errorf("%s: %d starts, want 1: %s", s.Name(), n, said)
		}
		if user, filter := run.Fact(s, "user"), run.Fact(s, "seccomp"); user != "12" || filter != "filter" || !strings.Contains(s.Confined, "12:34") {
			t.Errorf("%s: user %q, seccomp %q, %q; want 12, filter", s.Name(), user, filter, s.Confined)
		}
		if capabilities := run.Values("isolation", s, "capabilities", -1); len(capabilities) != 1 || capabilities[0] > 0 {
			t.Errorf("%s: capabilities %v, want none: it is not root", s.Name(), capabilities)
		}
	}
	if left, _ := os.ReadDir(host); len(left) != 1 {
		t.Errorf("in the host's folder there are %v", left)
	}
	if _, err := os.Lstat("/opt/vmm-test-cwd"); err == nil {
		t.Error("the working directory was made on the host")
	}
	if text, err := os.ReadFile(filepath.Join(host, "vmlinuz")); string(text) != "the host's" {
		t.Errorf("the host's file holds %q now, %v", text, err)
	}
}

// What an archive of assets holds can be measured with, on a host without the source.
func TestInstall(t *testing.T) {
	vmm := program(t)
	archive := filepath.Join(t.TempDir(), "assets.tar.gz")
	from := assets(t, "fine", "fine")
	if err := errors.Join(os.Mkdir(from+"/kernel", 0o755), os.WriteFile(from+"/kernel/vmlinux", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", from, "-czhf", archive, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	to := filepath.Join(t.TempDir(), "cache", "bench")
	if out, err := exec.Command(vmm, "bench", "install", archive, "--assets", to).CombinedOutput(); err != nil {
		t.Fatalf("install: %v: %s", err, out)
	}
	if out, err := exec.Command(vmm, "bench", "install", archive, "--assets", to).CombinedOutput(); err == nil || !strings.Contains(string(out), "there already") {
		t.Errorf("once more: %v, %s", err, out)
	}
	run, _ := measure(t, to, "--suite", "start", "--runtimes", "process,crun", "--parallel", "1", "--app", "rest-c")
	for _, s := range run.Subjects {
		if n := len(run.Values("start", s, "http", 1)); n != 1 {
			t.Errorf("%s: %d starts, want 1: %+v", s.Name(), n, run.Failures)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	vmm := program(t)
	leavesNothing(t)
	tests := map[string]struct {
		args []string
		want string
	}{
		"runtime":            {[]string{"--runtimes", "lxc"}, `"lxc" is not a runtime: choose of process, `},
		"suite":              {[]string{"--suite", "speed"}, `"speed" is not a suite: choose of start, `},
		"app":                {[]string{"--app", "rest-java"}, `there are rest-go and rest-c`},
		"number":             {[]string{"-n", "0"}, "at least one measurement"},
		"pin all":            {[]string{"--pin", "0-4095"}, "this machine has processors 0 to"},
		"pin":                {[]string{"--pin", "x"}, "write processors like 2,4-7"},
		"image without":      {[]string{"--image", container(t, "srv/service", "other"), "--ready", "http://:8080/"}, `its command "other" is not in it`},
		"image not there":    {[]string{"--image", "/nowhere.tar", "--ready", "http://:8080/"}, "no such file"},
		"image not ready":    {[]string{"--image", "x.tar"}, "say with --ready"},
		"ready":              {[]string{"--image", container(t, "a", "a"), "--ready", "8080"}, "write http://:PORT/PATH"},
		"nothing to measure": {[]string{"--assets", "/nowhere", "--runtimes", "process,runc,vm"}, "nothing can be measured here"},
		"nothing to go on":   {[]string{"--resume"}, "holds no run to go on with"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			said, err := exec.Command(vmm, append([]string{"bench", "run", "-o", out}, tt.args...)...).CombinedOutput()
			if err == nil || !strings.Contains(string(said), tt.want) {
				t.Errorf("err %v, said %q, want an error with %q", err, said, tt.want)
			}
		})
	}
}
