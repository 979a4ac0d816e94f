package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	public := file("id.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH1 me@host\n")
	options := file("options.pub", `no-pty,from="10.0.0.1" ecdsa-sha2-nistp256 AAAAE2VjZHNh me`)
	private := file("id", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n")
	nonsense := file("nonsense", "hello\n")
	for _, tt := range []struct {
		name string
		c    Config
		want string // in the error; "" for none
	}{
		{"key", Config{From: Debian, Access: Access{SSHKey: public}}, ""},
		{"key with options", Config{From: Debian, Access: Access{SSHKey: options}}, ""},
		{"all", Config{From: Debian, Packages: []string{"sudo"}, Access: Access{"lab-1", "alice", "pass word", public}}, ""},
		{"private key", Config{From: Debian, Access: Access{SSHKey: private}}, "private key"},
		{"no key", Config{From: Debian, Access: Access{SSHKey: nonsense}}, "no public key"},
		{"no file", Config{From: Debian, Access: Access{SSHKey: dir + "/none"}}, "no such file"},
		{"upper case", Config{From: Debian, Access: Access{Hostname: "Lab"}}, "no name of a host"},
		{"hook in a host's name", Config{From: Debian, Access: Access{Hostname: "a;reboot"}}, "no name of a host"},
		{"hook in a user's name", Config{From: Debian, Access: Access{User: "a$(reboot)"}}, "no name of a user"},
		{"root again", Config{From: Debian, Access: Access{User: "root"}}, "root is there already"},
		{"two passwords", Config{From: Debian, Access: Access{Password: "a\nroot:b"}}, "one line"},
		{"package of a folder", Config{From: Dir, Packages: []string{"sudo"}}, "from debian"},
		{"key of an archive", Config{From: Tar, Access: Access{SSHKey: public}}, "from debian"},
		{"small", Config{From: Dir, Size: 1000}, "at least"},
	} {
		err := tt.c.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
	}
}

// A file that exists is not touched without being asked for.
func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{From: Dir, Path: t.TempDir(), Output: path, Log: testWriter{t}}

	err := Build(t.Context(), c)

	if err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("error %v; want one that names --force", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("the file holds %q", text)
	}
	c.Replace = true
	build(t, c)
}

// A password is in no command line and in no shell's text, and the user's name in
// both as it is.
func TestHooks(t *testing.T) {
	dir := t.TempDir()
	hooks, err := (&Access{User: "alice", Password: "a'b$c"}).hooks(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(hooks, "\n")
	if strings.Contains(all, "a'b$c") || !strings.Contains(all, "useradd --create-home --shell /bin/bash alice") || !strings.Contains(all, "passwd --delete root") {
		t.Errorf("%s", all)
	}
	info, err := os.Stat(filepath.Join(dir, "password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if hooks, err := (&Access{Password: "x"}).hooks(dir); err != nil || strings.Contains(strings.Join(hooks, "\n"), "--delete root") {
		t.Errorf("root, who has a password, loses it: %v %v", hooks, err)
	}
}

func TestSteps(t *testing.T) {
	var got []string
	s := &steps{tell: func(step string) { got = append(got, step) }}
	for _, part := range []string{"I: running apt-get ", "update...\nW: nothing\nI: done\nI: creating", " tarball..."} {
		if _, err := s.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"fetching the list of packages"}, got); diff != "" {
		t.Error(diff)
	}
}
