package run

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmm/run/protocol"
	"vmm/untrusted"
)

// Record is what is known of a machine: a folder in the state's, with the name of its
// ID. The process that runs it holds a lock, so that all can see whether it runs,
// however that process ended.
type Record struct {
	ID      string
	Name    string
	Image   string
	Command []string
	Created time.Time
	Ports   []string `json:",omitempty"`
	// Process is what further programs are started with, and StopSignal what asks the
	// machine's own to end.
	Process    protocol.Process
	StopSignal string `json:",omitempty"`
	// End says how it ended, of a machine that is kept.
	End *End `json:",omitempty"`
	// Running: somebody holds its lock.
	Running bool `json:"-"`

	dir  string
	lock *os.File
}

// End is how a machine ended.
type End struct {
	Time   time.Time
	Status int
	Error  string `json:",omitempty"`
}

// The files of a machine's folder.
const (
	recordFile  = "machine.json"
	lockName    = "lock"
	initrdName  = "initrd"
	socketName  = "vsock"
	controlName = "control"
	logName     = "log"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// register makes a machine's folder. Folders of machines that have ended without
// removing theirs, by kill -9 or with the host, go.
func register(c Config, spec *protocol.Spec, stop string) (*Record, error) {
	if c.Name != "" && !validName.MatchString(c.Name) {
		return nil, fmt.Errorf("--name %q: write letters, digits, and _.- behind the first", c.Name)
	}
	if err := privateFolder(c.State); err != nil {
		return nil, err
	}
	all, err := lockFile(context.Background(), filepath.Join(c.State, lockName)) // names are nobody else's meanwhile
	if err != nil {
		return nil, err
	}
	defer all.Close()
	others, err := list(c.State, true)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails
	r := &Record{
		ID: hex.EncodeToString(id), Name: c.Name, Image: c.Image, Command: spec.Process.Args, Created: time.Now(), Ports: c.Ports,
		Process: spec.Process, StopSignal: stop,
	}
	if r.Name == "" {
		r.Name = r.ID
	}
	for _, o := range others {
		if o.Name == r.Name {
			return nil, fmt.Errorf("--name %s: the machine %s has that name", c.Name, o.ID)
		}
	}
	r.dir = filepath.Join(c.State, r.ID)
	// The length of a unix socket's path has a limit.
	if n := len(filepath.Join(r.dir, "vsock_1")); n > maxSocketPath {
		return nil, fmt.Errorf("the folder %s is too long a path for the sockets in it; choose another with XDG_STATE_HOME", c.State)
	}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, err
	}
	if r.lock, err = lockFile(context.Background(), filepath.Join(r.dir, lockName)); err == nil {
		err = r.write()
	}
	if err != nil {
		return nil, errors.Join(err, r.remove())
	}
	return r, nil
}

// maxSocketPath is the length of the longest path of a unix socket: unix(7).
const maxSocketPath = 107

func (r *Record) write() error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	next := filepath.Join(r.dir, recordFile+".new")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(r.dir, recordFile))
}

// finish ends a machine's record: it is removed, or says how the machine ended.
func (r *Record) finish(keep bool, status int, ended error) error {
	if !keep {
		return r.remove()
	}
	r.End = &End{Time: time.Now(), Status: status}
	if ended != nil {
		r.End.Error = ended.Error()
	}
	err := r.write()
	for _, name := range []string{initrdName, socketName, controlName} {
		if rmErr := os.RemoveAll(filepath.Join(r.dir, name)); rmErr != nil {
			err = errors.Join(err, rmErr)
		}
	}
	r.lock.Close()
	return err
}

// remove removes a machine's folder.
func (r *Record) remove() error {
	err := os.RemoveAll(r.dir)
	if r.lock != nil {
		r.lock.Close()
	}
	return err
}

// List are the machines, the oldest first: those that run, and those that are kept.
func List(state string) ([]Record, error) { return list(state, false) }

// list is List; healing, it removes what others have left.
func list(state string, heal bool) ([]Record, error) {
	entries, err := os.ReadDir(state)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Record
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(state, e.Name())
		r := Record{dir: dir, Running: running(dir)}
		readErr := readRecord(filepath.Join(dir, recordFile), &r)
		switch {
		case readErr == nil && (r.Running || r.End != nil):
			all = append(all, r)
		case !r.Running && heal: // killed
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(all, func(a, b Record) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// records are the limits of a record.
var records = untrusted.Limits{Bytes: 1 << 20, Values: 10_000}

func readRecord(path string, r *Record) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return untrusted.JSON(f, records, r)
}

// running tells whether somebody holds the lock of a machine's folder.
func running(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// findRunning is find for a machine that runs.
func findRunning(state, name string) (*Record, error) {
	r, err := find(state, name)
	if err == nil && !r.Running {
		err = fmt.Errorf("the machine %s has ended", r.Name)
	}
	return r, err
}

// find is the machine with a name, or whose ID begins with it.
func find(state, name string) (*Record, error) {
	all, err := List(state)
	if err != nil {
		return nil, err
	}
	var found []Record
	for _, r := range all {
		if r.Name == name {
			return &r, nil
		}
		if name != "" && strings.HasPrefix(r.ID, name) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("there is no machine %q; 'vmm ps --all' shows those that there are", name)
	case 1:
		return &found[0], nil
	}
	return nil, fmt.Errorf("%q is the begin of %d machines' IDs; write more of it", name, len(found))
}
