// Package cgroup keeps the processes of each instance in a cgroup of its own: to
// find all of them, to account their memory, to bound it, and to end them
// without exception. Linux's Documentation/admin-guide/cgroup-v2.rst.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// controllers are those that the bench uses where they are.
var controllers = []string{"memory", "cpu", "pids"}

// Tree is the bench's part of the hierarchy.
type Tree struct {
	// Path is its directory.
	Path string
	// Root is the directory of the hierarchy itself.
	Root string
	// Memory tells that memory is accounted.
	Memory bool

	added []string // controllers that were switched on in Root
}

// mountPoint finds where the version 2 hierarchy is.
func mountPoint() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("no cgroup hierarchy of version 2 is mounted; 'mount -t cgroup2 cgroup /sys/fs/cgroup' mounts it")
}

// New makes the tree of a run, and removes those of runs that were killed, by their
// names.
func New(name string, killed []string) (*Tree, error) {
	root, err := mountPoint()
	if err != nil {
		return nil, err
	}
	for _, k := range killed {
		_ = remove(filepath.Join(root, k))
	}
	t := &Tree{Root: root, Path: filepath.Join(root, name)}
	have, err := words(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return nil, err
	}
	on, err := words(filepath.Join(root, "cgroup.subtree_control"))
	if err != nil {
		return nil, err
	}
	for _, c := range controllers {
		if have[c] && !on[c] {
			if err := write(root, "cgroup.subtree_control", "+"+c); err != nil {
				return nil, err
			}
			t.added = append(t.added, c)
		}
	}
	if err := os.Mkdir(t.Path, 0o755); err != nil {
		return nil, err
	}
	for _, c := range controllers {
		if !have[c] {
			continue
		}
		if err := write(t.Path, "cgroup.subtree_control", "+"+c); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	t.Memory = have["memory"]
	return t, nil
}

// Open is the tree that another process made.
func Open(path string) *Tree {
	have, _ := words(filepath.Join(path, "cgroup.controllers"))
	return &Tree{Path: path, Root: filepath.Dir(path), Memory: have["memory"]}
}

// Close ends all processes in the tree and removes it.
func (t *Tree) Close() error {
	err := remove(t.Path)
	for _, c := range t.added {
		err = errors.Join(err, write(t.Root, "cgroup.subtree_control", "-"+c))
	}
	return err
}

// Group is the cgroup of an instance.
type Group struct{ Path string }

// Group makes a cgroup.
func (t *Tree) Group(name string) (Group, error) {
	g := Group{filepath.Join(t.Path, name)}
	return g, os.Mkdir(g.Path, 0o755)
}

// Relative is the path of the cgroup as OCI runtimes want it.
func (g Group) Relative(t *Tree) string { return strings.TrimPrefix(g.Path, t.Root) }

// Limit bounds the memory of what will run in it, swap included.
func (g Group) Limit(bytes int64) error {
	if err := write(g.Path, "memory.max", strconv.FormatInt(bytes, 10)); err != nil {
		return err
	}
	_ = write(g.Path, "memory.swap.max", "0") // not there without swap
	return nil
}

// Memory is how much memory is charged to it, in bytes.
func (g Group) Memory() (int64, error) {
	text, err := os.ReadFile(filepath.Join(g.Path, "memory.current"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// Processes are the ids of the processes in it and in those below it.
func (g Group) Processes() ([]int, error) {
	var pids []int
	err := filepath.WalkDir(g.Path, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return gone(err)
		}
		if d.Name() != "cgroup.procs" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return gone(err)
		}
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// gone forgives that a cgroup was removed meanwhile.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "no such device") {
		return nil
	}
	return err
}

// Kill ends every process in it, and waits until they are gone.
func (g Group) Kill() error { return kill(g.Path) }

// Close ends every process in it, and removes it.
func (g Group) Close() error { return remove(g.Path) }

// patience is how long killed processes may take to go.
const patience = 30 * time.Second

func kill(path string) error {
	if err := write(path, "cgroup.kill", "1"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		events, err := os.ReadFile(filepath.Join(path, "cgroup.events"))
		if err != nil {
			return gone(err)
		}
		if strings.Contains(string(events), "populated 0") {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: processes are left after they were killed", path)
		}
	}
}

// remove removes a cgroup and those in it.
func remove(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := kill(path); err != nil {
		return err
	}
	var dirs []string
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func write(dir, file, value string) error {
	if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
		return fmt.Errorf("cgroup: write %q: %w", value, err)
	}
	return nil
}

func words(path string) (map[string]bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set := map[string]bool{}
	for _, w := range strings.Fields(string(text)) {
		set[w] = true
	}
	return set, nil
}
