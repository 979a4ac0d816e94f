package bench

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vmm/bench/runtime"
	"vmm/image/tree"
)

// A run takes nothing for its own that it has not made: what is left of one that was
// killed goes, and nothing that only looks like it.
func TestSweep(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	at := func(name string) string { return filepath.Join(temp, name) }
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	killed, err := makeScratch()
	try(err)
	try(killed.owner.Close()) // which unlocks it, as the end of a process does
	alive, err := makeScratch()
	try(err)
	full, err := makeScratch()
	try(err)
	try(full.owner.Close())
	try(os.WriteFile(filepath.Join(full.path, "thesis.tex"), nil, 0o600))
	inRun, err := makeScratch()
	try(err)
	try(inRun.owner.Close())
	try(os.WriteFile(filepath.Join(inRun.run(), "thesis.tex"), nil, 0o600))
	open, err := makeScratch()
	try(err)
	try(open.owner.Close())
	try(os.Chmod(open.path, 0o777))
	try(os.Mkdir(at("vmm-bench-notes"), 0o700))
	try(os.Mkdir(at("vmm-bench-99999999"), 0o700))
	try(os.WriteFile(at("vmm-bench-99999998"), nil, 0o600))
	try(os.Symlink(killed.path, at("vmm-bench-99999997")))
	try(os.Mkdir(at("vmm-bench-fifo"), 0o700))
	try(unix.Mkfifo(at("vmm-bench-fifo/owner"), 0o600))
	if os.Geteuid() == 0 {
		theirs, err := makeScratch()
		try(err)
		try(theirs.owner.Close())
		try(os.Chown(theirs.path, 1234, 1234))
	}
	before, err := os.ReadDir(temp)
	try(err)
	if got := sweep(); !cmp.Equal(got, []string{killed.name()}) {
		t.Errorf("swept: %v, want %s alone", got, killed.name())
	}
	after, err := os.ReadDir(temp)
	try(err)
	var want, have []string
	for _, e := range before {
		if e.Name() != killed.name() {
			want = append(want, e.Name())
		}
	}
	for _, e := range after {
		have = append(have, e.Name())
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	if err := alive.remove(); err != nil {
		t.Error(err)
	}
}

func TestUserOf(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/:\nweb:x:33:34:a web server:/srv:/bin/false\n1000:x:7:7:::\nbad\nhuge:x:4294967295:1:::\n",
		"etc/group":  "root:x:0:\nwww:x:34:\nlogs:x:50:web,root\nmore:x:51:x,web\nbad:x:no:web\n",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := tree.Make(filepath.Join(t.TempDir(), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if err := files.Unpack(&b, tree.Archive{}); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		want runtime.User
		err  string
	}{
		"":           {},
		"root":       {want: runtime.User{Groups: []uint32{50}}},
		"web":        {want: runtime.User{UID: 33, GID: 34, Groups: []uint32{50, 51}}},
		"33":         {want: runtime.User{UID: 33, GID: 34, Groups: []uint32{50, 51}}},
		"web:logs":   {want: runtime.User{UID: 33, GID: 50}},
		"web:7":      {want: runtime.User{UID: 33, GID: 7}},
		"65534":      {want: runtime.User{UID: 65534}},
		"5:6":        {want: runtime.User{UID: 5, GID: 6}},
		"1000":       {want: runtime.User{UID: 7, GID: 7}}, // a name, if it is one
		"nobody":     {err: "not in its /etc/passwd"},
		"huge":       {err: "not in its /etc/passwd"},
		"-1":         {err: "not in its /etc/passwd"},
		"4294967295": {err: "not in its /etc/passwd"},
		"web:none":   {err: "not in its /etc/group"},
		"web:":       {err: "not in its /etc/group"},
	}
	for text, tt := range tests {
		got, err := userOf(files, text)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("userOf(%q): %v, want %q", text, err, tt.err)
		}
		if err == nil && (got.UID != tt.want.UID || got.GID != tt.want.GID || !slices.Equal(got.Groups, tt.want.Groups)) {
			t.Errorf("userOf(%q) = %+v, want %+v", text, got, tt.want)
		}
	}
}
