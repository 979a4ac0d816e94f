package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

type description struct {
	Name string `json:"name"`
}

// save saves a memory of 5 MiB with something in it.
func save(t testing.TB, dir string) {
	t.Helper()
	g, err := memory.New(memory.Layout(5<<20), memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, at := range []int64{0, 3<<20 + 100, 5<<20 - 8} {
		if _, err := g.WriteAt([]byte("contents"), at); err != nil {
			t.Fatal(err)
		}
	}
	w, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := write(w, g, "saved"); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

func write(p *Place, g *memory.Guest, name string) error {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer pagemap.Close()
	return Write(p.Files(), g, pagemap, description{name})
}

// check opens a snapshot and looks at all of it.
func check(dir string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	var d description
	if err := s.Describe(&d); err != nil {
		return err
	}
	if d.Name != "saved" {
		return fmt.Errorf("the description says %q", d.Name)
	}
	g, err := memory.New(memory.Layout(s.Size), memory.Options{File: s.Memory})
	if err != nil {
		return err
	}
	defer g.Close()
	for _, at := range []int64{0, 3<<20 + 100, 5<<20 - 8} {
		got := make([]byte, 8)
		if _, err := g.ReadAt(got, at); err != nil || string(got) != "contents" {
			return fmt.Errorf("at %#x there is %q, %v", at, got, err)
		}
	}
	return s.Verify()
}

func TestSnapshot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "snapshot")
	for range 2 { // the second replaces the first
		save(t, dir)
		if err := check(dir); err != nil {
			t.Error(err)
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if stored, err := s.Stored(); err != nil || stored > 64<<10 {
		t.Errorf("three pages take %d bytes, %v", stored, err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
		t.Errorf("beside the snapshot there is %v, %v", left, err)
	}
	for _, name := range []string{dir, filepath.Join(dir, memoryFile), filepath.Join(dir, descriptionFile)} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o77 != 0 {
			t.Errorf("%s is for others, too: %v, %v", name, info.Mode(), err)
		}
	}
}

// What is not committed leaves nothing, and what is there already alone.
func TestNotCommitted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "snapshot")
	save(t, dir)
	g, err := memory.New(memory.Layout(5<<20), memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	w, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(write(w, g, "another"), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := check(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
		t.Errorf("beside the snapshot there is %v, %v", left, err)
	}
}

// A place with something else, and a full disk.
func TestRefusals(t *testing.T) {
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "letter"), []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{other, filepath.Join(other, "letter"), "/proc/self/no/such"} {
		if w, err := Create(path); err == nil {
			w.Close()
			t.Errorf("a snapshot at %s", path)
		}
	}
	w := &Place{dir: "place"}
	if err := w.failed(&os.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}); !strings.Contains(err.Error(), "make room") {
		t.Errorf("a full disk: %v", err)
	}
}

// Damage of every kind is found: in the description at once, in the memory by Verify.
func TestDamage(t *testing.T) {
	cut := func(name string, size int64) func(string) error {
		return func(dir string) error { return os.Truncate(filepath.Join(dir, name), size) }
	}
	flip := func(name string, at int64) func(string) error {
		return func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			if at < 0 {
				info, err := f.Stat()
				if err != nil {
					return err
				}
				at += info.Size()
			}
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, at); err != nil {
				return err
			}
			b[0] ^= 1
			_, err = f.WriteAt(b, at)
			return err
		}
	}
	replace := func(name string, with func(path string) error) func(string) error {
		return func(dir string) error {
			path := filepath.Join(dir, name)
			return errors.Join(os.Remove(path), with(path))
		}
	}
	write := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	line := func(version int, memory, sums int64) string {
		return fmt.Sprintf(`{"format":"vmm snapshot","version":%d,"description":{"size":0,"crc32c":0},"memory":%d,"sums":{"size":%d,"crc32c":0}}`+"\n", version, memory, sums)
	}
	fifo := func(path string) error { return unix.Mkfifo(path, 0o600) }
	for name, tt := range map[string]struct {
		damage func(dir string) error
		want   string
	}{
		"no description":          {func(dir string) error { return os.Remove(filepath.Join(dir, descriptionFile)) }, descriptionFile},
		"empty description":       {cut(descriptionFile, 0), "not the description"},
		"short description":       {cut(descriptionFile, 150), descriptionFile},
		"description changed":     {flip(descriptionFile, -3), "damaged"},
		"not JSON":                {replace(descriptionFile, write("hello\n")), "not the description"},
		"a long line":             {replace(descriptionFile, write(strings.Repeat("x", 1<<20))), "not the description"},
		"another version":         {replace(descriptionFile, write(line(2, 5<<20, 12))), "version 2"},
		"no memory size":          {replace(descriptionFile, write(line(1, 0, 0))), "memory"},
		"memory of half a page":   {replace(descriptionFile, write(line(1, 5<<20+1, 12))), "memory"},
		"endless memory":          {replace(descriptionFile, write(line(1, 1<<62, 12))), "memory"},
		"other checksums' size":   {replace(descriptionFile, write(line(1, 5<<20, 1<<40))), "sums"},
		"a FIFO for a text":       {replace(descriptionFile, fifo), "regular"},
		"a FIFO for memory":       {replace(memoryFile, fifo), "regular"},
		"a link for memory":       {replace(memoryFile, func(path string) error { return os.Symlink("/etc/passwd", path) }), memoryFile},
		"a device for memory":     {replace(memoryFile, func(path string) error { return os.Symlink("/dev/zero", path) }), memoryFile},
		"no memory":               {func(dir string) error { return os.Remove(filepath.Join(dir, memoryFile)) }, memoryFile},
		"short memory":            {cut(memoryFile, 4<<20), "damaged"},
		"long memory":             {cut(memoryFile, 6<<20), "damaged"},
		"memory changed":          {flip(memoryFile, 3<<20+120), "between 0x200000 and 0x400000"},
		"memory changed in zeros": {flip(memoryFile, 4<<20+5), "between 0x400000 and 0x500000"},
		"checksums changed":       {flip(sumsFile, 1), sumsFile},
		"short checksums":         {cut(sumsFile, 8), sumsFile},
		"long checksums":          {cut(sumsFile, 1<<30), sumsFile},
		"no checksums":            {func(dir string) error { return os.Remove(filepath.Join(dir, sumsFile)) }, sumsFile},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "snapshot")
			save(t, dir)
			if err := tt.damage(dir); err != nil {
				t.Fatal(err)
			}
			if err := check(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "give the folder") {
		t.Errorf("no snapshot: %v", err)
	}
}

// Whatever the description is, it is read or refused.
func FuzzOpen(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "snapshot")
	save(f, dir)
	text, err := os.ReadFile(filepath.Join(dir, descriptionFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.ReplaceAll(text, []byte("5242880"), []byte("18446744073709547520")))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, descriptionFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(dir); err == nil {
			var d description
			_ = s.Describe(&d)
			_ = s.Verify()
			s.Close()
		}
	})
}
