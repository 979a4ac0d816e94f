package cache

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A cache whose folder somebody else could replace is not used, and nothing is made
// or removed where it would lead.
func TestWhoseFolder(t *testing.T) {
	tests := map[string]struct {
		make func(t *testing.T, dir, elsewhere string) // of dir/vmm/unpacked
		root bool                                      // it takes root to set up
		want string
	}{
		"nothing there yet": {func(*testing.T, string, string) {}, false, ""},
		"a link on the way": {func(t *testing.T, dir, elsewhere string) { try(t, os.Symlink(elsewhere, dir+"/vmm")) }, false, ""},
		"the folder is a link": {func(t *testing.T, dir, elsewhere string) {
			try(t, os.Mkdir(dir+"/vmm", 0o700))
			try(t, os.Symlink(elsewhere, dir+"/vmm/unpacked"))
		}, false, "it is a link"},
		"a parent that all can write to": {func(t *testing.T, dir, _ string) {
			try(t, os.Mkdir(dir+"/vmm", 0o700))
			try(t, os.Chmod(dir+"/vmm", 0o777))
		}, false, "others than this user can write"},
		"a parent like /tmp": {func(t *testing.T, dir, _ string) {
			try(t, os.Mkdir(dir+"/vmm", 0o700))
			try(t, os.Chmod(dir+"/vmm", 0o777|os.ModeSticky))
		}, false, ""},
		"the folder can be written to": {func(t *testing.T, dir, _ string) {
			try(t, os.MkdirAll(dir+"/vmm/unpacked", 0o700))
			try(t, os.Chmod(dir+"/vmm/unpacked", 0o770))
		}, false, "others than this user can write"},
		"another's parent, with a link": {func(t *testing.T, dir, elsewhere string) {
			try(t, os.Mkdir(dir+"/vmm", 0o755))
			try(t, os.Symlink(elsewhere, dir+"/vmm/unpacked"))
			try(t, os.Chown(dir+"/vmm", 1234, 1234))
		}, true, "belongs to user 1234"},
		"another's link": {func(t *testing.T, dir, elsewhere string) {
			try(t, os.Symlink(elsewhere, dir+"/vmm"))
			try(t, os.Lchown(dir+"/vmm", 1234, 1234))
		}, true, "belongs to user 1234"},
		"another's folder": {func(t *testing.T, dir, _ string) {
			try(t, os.MkdirAll(dir+"/vmm/unpacked", 0o755))
			try(t, os.Chown(dir+"/vmm/unpacked", 1234, 1234))
		}, true, "belongs to user 1234"},
		"a file in its place": {func(t *testing.T, dir, _ string) { try(t, os.WriteFile(dir+"/vmm", nil, 0o600)) }, false, "not a directory"},
		"links in a circle":   {func(t *testing.T, dir, _ string) { try(t, os.Symlink("vmm", dir+"/vmm")) }, false, "too many"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.root && os.Geteuid() != 0 {
				t.Skip("it takes root to give a folder to another user")
			}
			dir, elsewhere := t.TempDir(), t.TempDir()
			precious := filepath.Join(elsewhere, "new-precious")
			try(t, os.WriteFile(precious, nil, 0o600))
			tt.make(t, dir, elsewhere)
			c, err := Open(filepath.Join(dir, "vmm", "unpacked"), 0, slog.New(slog.DiscardHandler))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if err == nil {
				c.Close()
				return
			}
			if left, _ := os.ReadDir(elsewhere); len(left) != 1 {
				t.Errorf("where the link leads, there are %v", left)
			}
		})
	}
}

// What is done is done in the folder that was opened, whatever has its name by then.
func TestFolderThatIsReplaced(t *testing.T) {
	base := t.TempDir()
	dir, elsewhere := filepath.Join(base, "unpacked"), t.TempDir()
	c, err := Open(dir, DefaultLimit, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	try(t, os.Rename(dir, dir+".old"))
	try(t, os.Symlink(elsewhere, dir))
	try(t, c.setRecord("of-x", "value"))
	try(t, c.evict(""))
	try(t, c.openShares())
	if left, _ := os.ReadDir(elsewhere); len(left) != 0 {
		t.Errorf("where the link leads, there are %v", left)
	}
	if value, err := c.record("of-x"); value != "value" || err != nil {
		t.Errorf("record: %q, %v", value, err)
	}
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
