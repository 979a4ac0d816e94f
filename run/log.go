package run

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLog is how large a log grows, in bytes, before it makes way for the next: the
// guest writes it. One that is older is kept.
const maxLog = 16 << 20

// logFile is a file for what a detached machine's program says.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int64
}

const oldLog = ".1" // is behind the name of the older one

func (r *Record) openLog() (*logFile, error) {
	l := &logFile{path: filepath.Join(r.dir, logName)}
	return l, l.open()
}

func (l *logFile) open() (err error) {
	l.size = 0
	l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return err
}

// Write implements io.Writer.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > maxLog {
		if err := errors.Join(l.file.Close(), os.Rename(l.path, l.path+oldLog), l.open()); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Logs writes what a detached machine's program has said; following, what it goes on to
// say, until it has ended or done is closed.
func Logs(state, machine string, follow bool, done <-chan struct{}, to io.Writer) error {
	r, err := find(state, machine)
	if err != nil {
		return err
	}
	path := filepath.Join(r.dir, logName)
	if err := copyFile(to, path+oldLog); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the machine " + r.Name + " has no log: what its program says goes to who runs it")
	}
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	for {
		ended := !running(r.dir) // before what it says last is read
		if _, err := io.Copy(to, f); err != nil {
			return err
		}
		if !follow || ended {
			return nil
		}
		if next, err := os.Open(path); err == nil { // the file may have made way
			if newer(f, next) {
				f.Close()
				f = next
				continue
			}
			next.Close()
		}
		select {
		case <-done:
			return nil
		case <-time.After(lookAgain):
		}
	}
}

// lookAgain is when a log is looked at again that had nothing new.
const lookAgain = 100 * time.Millisecond

func newer(a, b *os.File) bool {
	one, err := a.Stat()
	if err != nil {
		return false
	}
	other, err := b.Stat()
	return err == nil && !os.SameFile(one, other)
}

func copyFile(to io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}
