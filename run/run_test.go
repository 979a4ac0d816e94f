package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vmm/image/tree"
	"vmm/run/protocol"
)

func TestSpec(t *testing.T) {
	t.Setenv("MINE", "here")
	image := &source{
		entrypoint: []string{"/entry", "-a"}, command: []string{"serve"}, env: []string{"PATH=/bin", "A=1"},
		dir: "srv", user: "web",
	}
	c := Config{Hostname: "box", Env: []string{"A=2", "MINE", "NOTMINE"}, Network: true, Groups: []string{"extra"}}
	got, err := c.spec(image)
	if err != nil {
		t.Fatal(err)
	}
	want := &protocol.Spec{
		Version: 1, Root: "/dev/vda", Hostname: "box", Session: true,
		Network: &protocol.Network{Interface: "eth0", Address: "10.0.2.15/24", Gateway: "10.0.2.2", Resolvers: []string{"10.0.2.3"}},
		Process: protocol.Process{
			Args: []string{"/entry", "-a", "serve"}, Env: []string{"PATH=/bin", "HOSTNAME=box", "A=2", "MINE=here"}, Dir: "/srv", User: "web",
			Groups: []string{"extra"}, Capabilities: usual, Rlimits: []protocol.Rlimit{{Name: "NOFILE", Soft: 1024, Hard: 524288}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCommand(t *testing.T) {
	image := &source{entrypoint: []string{"/entry"}, command: []string{"serve"}, dir: "/srv"}
	other, none := "/other", ""
	tests := map[string]struct {
		c    Config
		want string
	}{
		"the image's":           {Config{}, "/entry serve in /srv"},
		"a command":             {Config{Command: []string{"a", "b"}}, "/entry a b in /srv"},
		"an entrypoint":         {Config{Entrypoint: &other}, "/other in /srv"},
		"both":                  {Config{Entrypoint: &other, Command: []string{"a"}}, "/other a in /srv"},
		"no entrypoint":         {Config{Entrypoint: &none, Command: []string{"a"}}, "a in /srv"},
		"a folder":              {Config{Dir: "/w/../v"}, "/entry serve in /v"},
		"a relative folder":     {Config{Dir: "sub"}, "/entry serve in /srv/sub"},
		"a folder above":        {Config{Dir: "../../.."}, "/entry serve in /"},
		"nothing to be started": {Config{Entrypoint: &none}, "the image names no command"},
	}
	for name, tt := range tests {
		spec, err := tt.c.spec(image)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = strings.Join(spec.Process.Args, " ") + " in " + spec.Process.Dir
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	tests := map[string]struct {
		add, drop []string
		want      string // "" for an error
	}{
		"usual":          {nil, nil, strings.Join(usual, " ")},
		"none":           {nil, []string{"all"}, " "},
		"one":            {[]string{"SYS_TIME"}, []string{"ALL"}, "SYS_TIME"},
		"one less":       {nil, []string{"cap_chown", "MKNOD"}, "DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT AUDIT_WRITE SETFCAP"},
		"all":            {[]string{"ALL"}, nil, "ALL"},
		"a wrong name":   {[]string{"FLY"}, nil, ""},
		"all but one is": {[]string{"ALL"}, []string{"KILL"}, ""},
	}
	for name, tt := range tests {
		list, all, err := (&Config{Add: tt.add, Drop: tt.drop}).capabilities()
		got := strings.Join(list, " ")
		if all {
			got = "ALL"
		} else if got == "" {
			got = " "
		}
		if err != nil {
			got = ""
		}
		if got != tt.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tt.want)
		}
	}
}

func TestArgs(t *testing.T) {
	dir := t.TempDir()
	c := Config{
		Kernel: "k", Memory: 1 << 30, CPUs: 2, Network: true, Ports: []string{"8080:80", "127.0.0.1:53:53/udp", "[::1]:1:2/tcp"},
		Volumes: []string{dir + ":/data:ro"},
	}
	args, err := c.args("a,b", "i", "s", "c")
	if err != nil {
		t.Fatal(err)
	}
	want := "boot --kernel k --initrd i --memory 1048576K --cpus 2 --disk path=a,,b,ro,format=raw --vsock cid=3,uds=s --control c --append quiet rdinit=/.vmm/init " +
		"--net user,hostfwd=tcp:0.0.0.0:8080-:80,hostfwd=udp:127.0.0.1:53-:53,hostfwd=tcp:[::1]:1-:2 --share path=" + dir + ",tag=volume0,ro"
	if got := strings.Join(args, " "); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	for _, bad := range []Config{
		{Ports: []string{"80"}, Network: true}, {Ports: []string{"a:80"}, Network: true}, {Ports: []string{"80:80/sctp"}, Network: true},
		{Ports: []string{"80:0"}, Network: true}, {Ports: []string{"80:99999"}, Network: true}, {Ports: []string{"name:80:80"}, Network: true},
		{Ports: []string{"80:80"}}, {Volumes: []string{dir}}, {Volumes: []string{dir + ":rel"}}, {Volumes: []string{dir + ":/"}},
		{Volumes: []string{dir + ":/a:rx"}}, {Volumes: []string{dir + "/none:/a"}}, {Volumes: []string{":/a"}},
	} {
		if args, err := bad.args("d", "i", "s", "c"); err == nil {
			t.Errorf("%v %v: %v", bad.Ports, bad.Volumes, args)
		}
	}
}

// rootFolder is a folder with the files of an image.
func rootFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/bin", 0o755), os.WriteFile(dir+"/bin/app", []byte("program"), 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An image is converted once, however many want it at once, and again when it has
// changed.
func TestCache(t *testing.T) {
	dir, from := filepath.Join(t.TempDir(), "cache"), rootFolder(t)
	var mu sync.Mutex
	converted := 0
	get := func() string {
		s, err := open(from)
		if err != nil {
			t.Error(err)
			return ""
		}
		c, err := OpenCache(dir)
		if err != nil {
			t.Error(err)
			return ""
		}
		path, err := c.fileSystem(context.Background(), s, func(string) { mu.Lock(); converted++; mu.Unlock() })
		if err != nil {
			t.Error(err)
		}
		return path
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { get() })
	}
	group.Wait()
	first := get()
	if converted != 1 {
		t.Errorf("converted %d times, want once", converted)
	}
	if err := os.WriteFile(from+"/bin/app", []byte("changed"), 0o755); err != nil {
		t.Fatal(err)
	}
	if second := get(); second == first || converted != 2 {
		t.Errorf("after a change the file system is the same; converted %d times", converted)
	}
	names, err := filepath.Glob(dir + "/*")
	if err != nil || len(names) != 2 {
		t.Errorf("in the cache there are %v, %v; want two file systems", names, err)
	}
}

// What a conversion has left that was killed, or that failed, does not stay.
func TestCacheHeals(t *testing.T) {
	dir, from := filepath.Join(t.TempDir(), "cache"), rootFolder(t)
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(from)
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("a full disk")
	broken := *s
	broken.unpack = func(context.Context, *tree.Tree) error { return failure }
	if _, err := c.fileSystem(context.Background(), &broken, func(string) {}); !errors.Is(err, failure) {
		t.Errorf("%v, want %v", err, failure)
	}
	if left, _ := filepath.Glob(dir + "/*.new"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	path, err := c.fileSystem(context.Background(), s, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(path), os.MkdirAll(strings.TrimSuffix(path, ".erofs")+".new/tree/x", 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.fileSystem(context.Background(), s, func(string) {}); err != nil {
		t.Errorf("after one that was killed: %v", err)
	}
}

func TestPrivateFolder(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/open", 0o700), os.Chmod(dir+"/open", 0o777), os.Symlink(dir, dir+"/link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"open", "link"} {
		if _, err := OpenCache(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"/nowhere": "no such file or folder; it is", file: "neither the folder of an OCI layout nor an archive"} {
		if _, err := open(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// Machines have names of their own, and folders that go with them, however they end.
func TestRecords(t *testing.T) {
	c := Config{State: filepath.Join(t.TempDir(), "machines"), Name: "one", Image: "i"}
	spec := &protocol.Spec{Process: protocol.Process{Args: []string{"a"}}}
	one, err := register(c, spec, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := register(c, spec, ""); err == nil || !strings.Contains(err.Error(), "has that name") {
		t.Errorf("the same name: %v", err)
	}
	for _, name := range []string{"../x", "-a", "a b", strings.Repeat("x", 200)} {
		if _, err := register(Config{State: c.State, Name: name}, spec, ""); err == nil {
			t.Errorf("--name %q is taken", name)
		}
	}
	two, err := register(Config{State: c.State}, spec, "")
	if err != nil {
		t.Fatal(err)
	}
	all, err := List(c.State)
	if err != nil || len(all) != 2 || all[0].Name != "one" || all[1].Name != two.ID {
		t.Errorf("List: %+v, %v", all, err)
	}
	if found, err := find(c.State, two.ID[:5]); err != nil || found.ID != two.ID {
		t.Errorf("find: %+v, %v", found, err)
	}
	one.lock.Close() // as by kill -9
	if all, err := List(c.State); err != nil || len(all) != 1 {
		t.Errorf("List: %+v, %v; want one", all, err)
	}
	three, err := register(c, spec, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(one.dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the folder of a machine that is gone is still there")
	}
	if err := errors.Join(two.remove(), three.remove()); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(c.State + "/*-*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// What a detached machine has said, and how it ended, stays until it is removed.
func TestKeptRecord(t *testing.T) {
	c := Config{State: filepath.Join(t.TempDir(), "machines"), Name: "kept"}
	r, err := register(c, &protocol.Spec{Process: protocol.Process{Args: []string{"a"}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.openLog()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(l, "said\n"); err != nil {
		t.Fatal(err)
	}
	if err := Remove(c.State, "kept", false); err == nil || !strings.Contains(err.Error(), "runs: stop it first") {
		t.Errorf("Remove: %v", err)
	}
	if err := errors.Join(l.Close(), r.finish(true, 3, errors.New("why"))); err != nil {
		t.Fatal(err)
	}
	if _, err := register(c, &protocol.Spec{}, ""); err == nil {
		t.Error("its name is taken again")
	}
	found, err := find(c.State, "kept")
	if err != nil || found.Running || found.End == nil || found.End.Status != 3 || found.End.Error != "why" {
		t.Errorf("find: %+v, %v", found, err)
	}
	if _, err := findRunning(c.State, "kept"); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("findRunning: %v", err)
	}
	var out bytes.Buffer
	if err := Logs(c.State, "kept", true, nil, &out); err != nil || out.String() != "said\n" {
		t.Errorf("Logs: %q, %v", &out, err)
	}
	if err := Remove(c.State, "kept", false); err != nil {
		t.Error(err)
	}
	if all, err := List(c.State); err != nil || len(all) != 0 {
		t.Errorf("List: %+v, %v", all, err)
	}
}

// A log has a bound, and its end is kept.
func TestLogIsBounded(t *testing.T) {
	r := &Record{dir: t.TempDir()}
	l, err := r.openLog()
	if err != nil {
		t.Fatal(err)
	}
	piece := bytes.Repeat([]byte("x"), 1<<20)
	for range 40 {
		if _, err := l.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(l, "the end"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var size int64
	names, err := filepath.Glob(r.dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	text, err := os.ReadFile(filepath.Join(r.dir, logName))
	if err != nil || !bytes.HasSuffix(text, []byte("the end")) || size > 2*maxLog {
		t.Errorf("%d bytes in %v, %v", size, names, err)
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]unix.Signal{"": unix.SIGTERM, "9": unix.SIGKILL, "SIGHUP": unix.SIGHUP, "usr1": unix.SIGUSR1, "0": 0, "65": 0, "SIGNO": 0, "-1": 0} {
		if got, err := ParseSignal(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("ParseSignal(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

// A session is begun as the device wants it, whatever it answers.
func TestBegin(t *testing.T) {
	for answer, want := range map[string]string{"OK 5\n": "", "no\n": "takes no sessions", "": "takes no sessions", strings.Repeat("O", 1000): "takes no sessions"} {
		host, device := net.Pipe()
		go func() {
			line := make([]byte, 10)
			_, _ = io.ReadFull(device, line)
			_, _ = io.WriteString(device, answer)
			if want != "" {
				device.Close()
				return
			}
			_ = protocol.NewWriter(device).Number(protocol.Hello, protocol.Version)
		}()
		_, err := begin(host)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("answer %.20q: %v, want %q", answer, err, want)
		}
		host.Close()
		device.Close()
	}
}

// guest is a first process as a test plays it.
func guest(t *testing.T, play func(from io.Reader, to *protocol.Writer) error) net.Conn {
	t.Helper()
	host, guest := net.Pipe()
	done := make(chan error, 1)
	go func() {
		defer guest.Close()
		done <- play(guest, protocol.NewWriter(guest))
	}()
	t.Cleanup(func() {
		host.Close()
		if err := <-done; err != nil {
			t.Error("the guest's side:", err)
		}
	})
	_ = host.SetDeadline(time.Now().Add(time.Minute))
	return host
}

func TestSession(t *testing.T) {
	var got []string
	conn := guest(t, func(from io.Reader, to *protocol.Writer) error {
		if err := errors.Join(to.Number(protocol.Hello, protocol.Version), to.Write(protocol.Started, nil)); err != nil {
			return err
		}
		buffer := make([]byte, protocol.MaxData)
		for {
			if err := to.Write(protocol.Want, nil); err != nil {
				return err
			}
			m, err := protocol.Read(from, buffer)
			if err != nil {
				return err
			}
			got = append(got, string(m.Data))
			if m.Kind == protocol.Stdin && len(m.Data) == 0 {
				break
			}
		}
		return errors.Join(to.Write(protocol.Stdout, []byte("out")), to.Write(protocol.Stderr, []byte("err")), to.Exit(9, ""))
	})
	s, err := greet(conn)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	status, err := s.run(streams{in: strings.NewReader("input"), out: &out, err: &errs})
	if status != 9 || err != nil || out.String() != "out" || errs.String() != "err" {
		t.Errorf("%d, %v, %q, %q", status, err, &out, &errs)
	}
}

// Signals that come before the program is there reach it when it is.
func TestSignalsWait(t *testing.T) {
	conn := guest(t, func(from io.Reader, to *protocol.Writer) error {
		err := errors.Join(to.Number(protocol.Hello, protocol.Version), to.Write(protocol.Started, nil))
		m, readErr := protocol.Read(from, make([]byte, protocol.MaxData))
		n, _ := m.Number()
		if m.Kind != protocol.Signal || n != uint32(unix.SIGTERM) {
			t.Errorf("kind %d, %d; want a SIGTERM", m.Kind, n)
		}
		return errors.Join(err, readErr, to.Exit(0, ""))
	})
	s, err := greet(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status, err := s.run(streams{out: io.Discard, err: io.Discard}); status != 0 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
}

func TestHostileGuest(t *testing.T) {
	tests := map[string]struct {
		play func(to *protocol.Writer) error
		want string
	}{
		"another version": {func(to *protocol.Writer) error { return to.Number(protocol.Hello, 7) }, "version 7"},
		"no greeting":     {func(to *protocol.Writer) error { return to.Write(protocol.Stdout, nil) }, "begins with a message of kind"},
		"a host's message": {func(to *protocol.Writer) error {
			_ = to.Number(protocol.Hello, protocol.Version)
			return to.Number(protocol.Kill, 9)
		}, "sends a message of kind"},
		"no end": {func(to *protocol.Writer) error { return to.Number(protocol.Hello, protocol.Version) }, "has ended before"},
		"a wrong status": {func(to *protocol.Writer) error {
			_ = to.Number(protocol.Hello, protocol.Version)
			return to.Number(protocol.Exit, 1<<20)
		}, "the exit status 1048576"},
		"why not": {func(to *protocol.Writer) error {
			_ = to.Number(protocol.Hello, protocol.Version)
			return to.Exit(127, "not there")
		}, "not there"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := greet(guest(t, func(_ io.Reader, to *protocol.Writer) error { return tt.play(to) }))
			if err == nil {
				_, err = s.run(streams{out: io.Discard, err: io.Discard})
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// Whatever a guest says, its session ends with what it said.
func FuzzGuest(f *testing.F) {
	var b bytes.Buffer
	w := protocol.NewWriter(&b)
	_ = w.Number(protocol.Hello, protocol.Version)
	_ = w.Write(protocol.Started, nil)
	_ = w.Write(protocol.Want, nil)
	_ = w.Write(protocol.Stdout, []byte("out"))
	_ = w.Exit(3, "")
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		host, guest := net.Pipe()
		defer host.Close()
		go func() { _, _ = io.Copy(io.Discard, guest) }()
		go func() {
			_, _ = guest.Write(data)
			guest.Close()
		}()
		_ = host.SetDeadline(time.Now().Add(10 * time.Second))
		s, err := greet(host)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if _, err := s.run(streams{in: strings.NewReader("x"), out: &out, err: &out}); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the session does not end")
		}
		if out.Len() > len(data) {
			t.Fatalf("%d bytes of output from %d", out.Len(), len(data))
		}
	})
}
