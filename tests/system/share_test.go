package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mountShare mounts the folder with a tag in the guest.
func mountShare(v *vm, tag, at, options string) {
	v.t.Helper()
	v.sh("mkdir -p %[2]s && mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144%[3]s %[1]s %[2]s", tag, at, options)
}

// In a shared folder a guest clones a repository, builds a program with Go, and
// does to files what else programs do; the host sees all of it, and the guest
// nothing but the folder.
func TestShare(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		dir := t.TempDir()
		work := filepath.Join(dir, "work")
		repository(t, filepath.Join(dir, "origin"))
		host(t, "git", "init", "-q", "--bare", "-b", "main", filepath.Join(work, "origin.git"))
		host(t, "git", "-C", filepath.Join(dir, "origin"), "push", "-q", filepath.Join(work, "origin.git"), "main")
		if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("not for guests"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../secret", filepath.Join(work, "way-out")); err != nil {
			t.Fatal(err)
		}
		goroot := host(t, "go", "env", "GOROOT")
		// The packages of the standard library, compiled: only the program
		// itself is left to build.
		if err := os.CopyFS(filepath.Join(work, "cache"), os.DirFS(env(t, "VMM_GOCACHE"))); err != nil {
			t.Fatal(err)
		}
		v := serve(t, "--transport", transport, "--memory", "1G",
			"--share", "path="+work+",tag=work", "--share", "path="+goroot+",tag=go,ro")
		mountShare(v, "work", "/mnt", "")
		mountShare(v, "go", goroot, ",ro,cache=loose")

		v.sh("git config --global --add safe.directory '*' && git clone -q /mnt/origin.git /mnt/clone && " +
			"git -C /mnt/clone fsck --strict && cd /mnt/clone && git status --porcelain | (! grep .)")
		v.sh("cd /mnt/clone && git checkout -q -b topic && git mv file-001 moved && git -c user.name=a -c user.email=b commit -qam second && git gc -q && git push -q origin topic")
		if got := host(t, "git", "-c", "safe.directory=*", "-C", filepath.Join(work, "clone"), "status", "--porcelain"); got != "" {
			t.Errorf("the clone, from the host: %s", got)
		}
		host(t, "git", "-c", "safe.directory=*", "-C", filepath.Join(work, "origin.git"), "fsck", "--strict")
		if got := host(t, "git", "-c", "safe.directory=*", "-C", filepath.Join(work, "origin.git"), "show", "topic:moved"); got != "contents of 1" {
			t.Errorf("what the guest pushed: %q", got)
		}

		v.sh("cd /mnt/clone && GOROOT=%s GOCACHE=/mnt/cache GOFLAGS=-trimpath GOTOOLCHAIN=local CGO_ENABLED=0 HOME=/root %[1]s/bin/go build -o hello . && ./hello", goroot)
		if got := host(t, filepath.Join(work, "clone", "hello")); got != "hello from the share" {
			t.Errorf("the program, on the host: %q", got)
		}

		// What programs expect of a file system.
		program, err := os.ReadFile(env(t, "VMM_SHARES_TEST"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(work, "shares.test"), program, 0o755); err != nil {
			t.Fatal(err)
		}
		v.sh("cd / && VMM_SHARE=/mnt /mnt/shares.test -test.v")

		// What programs do with files.
		if got := v.sh("%s", fileScript); got != "done" {
			t.Errorf("files: %s", got)
		}
		if got, err := os.ReadFile(filepath.Join(work, "files", "appended")); err != nil || string(got) != "one\ntwo\n" {
			t.Errorf("appended: %q, %v", got, err)
		}
		if out, status := v.try("cat /mnt/way-out"); status == 0 {
			t.Errorf("out of the folder: %s", out)
		}
		if out, status := v.try("touch %s/x", goroot); status == 0 || !strings.Contains(out, "Read-only") {
			t.Errorf("a write where there is none: status %d, %s", status, out)
		}
		v.sh("umount /mnt && umount %s", goroot)
		v.powerOff()
	})
}

// fileScript is what programs do with files, with a check of each.
const fileScript = `
set -eu
mkdir /mnt/files && cd /mnt/files
echo one >appended && echo two >>appended
head -c 3M /dev/urandom >big && cp big copy && cmp big copy
mv copy moved && [ ! -e copy ] && cmp big moved
ln -s big link && [ "$(readlink link)" = big ] && cmp big link
ln big hard && [ "$(stat -c %h big)" = 2 ]
chmod 640 big && [ "$(stat -c %a hard)" = 640 ]
touch -d @1000000000 big && [ "$(stat -c %Y big)" = 1000000000 ]
truncate -s 100 moved && [ "$(stat -c %s moved)" = 100 ]
mkdir -p a/b/c && mv a d && rmdir d/b/c d/b d
mkdir many && (cd many && seq 500 | xargs touch) && [ "$(ls many | wc -l)" = 500 ] && rm -r many
mkfifo pipe && [ -p pipe ] && rm pipe
exec 3<>gone && rm gone && echo still >&3 && exec 3>&- # a file without a name
perl -e 'open my $f, "+>", "nameless" or die; unlink "nameless";
  truncate $f, 3 or die "ftruncate: $!"; chmod 0600, $f or die "fchmod: $!"; chown 0, 0, $f or die "fchown: $!";
  utime 1, 1, $f or die "futimens: $!"; (stat $f)[7] == 3 or die "fstat"'
flock lock true
sync .
echo done
`

// repository makes a small repository with a program.
func repository(t testing.TB, dir string) {
	t.Helper()
	files := map[string]string{
		"go.mod":  "module hello\n\ngo 1.21\n",
		"main.go": "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello from the share\") }\n",
	}
	for i := range 200 {
		files[fmt.Sprintf("file-%03d", i)] = fmt.Sprintf("contents of %d\n", i)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	host(t, "git", "-C", dir, "init", "-q", "-b", "main")
	host(t, "git", "-C", dir, "add", ".")
	host(t, "git", "-C", dir, "-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "first")
}
