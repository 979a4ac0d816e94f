package share

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Budget is what the folders of one machine may hold of the host's, together. A
// guest holds files, locks and attributes for as long as it likes; what it may
// not do is to leave the host, or the rest of vmm, without.
type Budget struct {
	descriptors counter
	locks       counter
	bytes       counter
	workers     chan struct{}
}

// What a machine's shares may hold at the most, whatever the host allows.
const (
	// MaxDescriptors is how many files. Linux as a guest holds one for every
	// file that it remembers, which are tens of thousands where a program is
	// built.
	MaxDescriptors = 1 << 18
	// MaxLocks is how many ranges of files are locked.
	MaxLocks = 4096
	// MaxAttributeBytes is how much there is of extended attributes that are
	// being read or written.
	MaxAttributeBytes = 4 << 20
	// MaxWorkers is how many requests are served at once, beside one of each
	// share.
	MaxWorkers = 16
)

// NewBudget returns the budget of a machine. It raises the process's limit of
// open files as far as it may, and takes half of it: the rest of vmm needs some,
// too.
func NewBudget() *Budget {
	files := int64(raiseFileLimit() / 2)
	return newBudget(min(files, MaxDescriptors), MaxLocks, MaxAttributeBytes, MaxWorkers)
}

func newBudget(descriptors, locks, bytes int64, workers int) *Budget {
	return &Budget{
		descriptors: counter{limit: descriptors},
		locks:       counter{limit: locks},
		bytes:       counter{limit: bytes},
		workers:     make(chan struct{}, workers),
	}
}

// Descriptors is how many files are held.
func (b *Budget) Descriptors() int64 { return b.descriptors.used.Load() }

// TakeBytes counts n bytes of memory that a guest makes its server hold. An
// error of ENOMEM says that they are too many.
func (b *Budget) TakeBytes(n int) error {
	if !b.bytes.take(int64(n)) {
		return unix.ENOMEM
	}
	return nil
}

// GiveBytes takes back what TakeBytes counted.
func (b *Budget) GiveBytes(n int) { b.bytes.give(int64(n)) }

// TakeWorker reports whether another goroutine may serve requests; GiveWorker
// ends that.
func (b *Budget) TakeWorker() bool {
	select {
	case b.workers <- struct{}{}:
		return true
	default:
		return false
	}
}

// GiveWorker says that a goroutine of TakeWorker's has ended.
func (b *Budget) GiveWorker() { <-b.workers }

// counter counts things of which there is a limit.
type counter struct {
	used  atomic.Int64
	limit int64
}

// take counts n more and reports whether that is within the limit.
func (c *counter) take(n int64) bool {
	if c.used.Add(n) > c.limit {
		c.used.Add(-n)
		return false
	}
	return true
}

func (c *counter) give(n int64) { c.used.Add(-n) }

// raiseFileLimit raises the limit of open files to what Linux allows at the most
// when not told otherwise (/proc/sys/fs/nr_open), if this process may, and returns
// what it is then. A host's usual limit is a few thousand, which only root can
// raise beyond.
func raiseFileLimit() uint64 {
	const most = 1 << 20
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // there is no host on which it fails
	}
	if limit.Cur < most {
		more := unix.Rlimit{Cur: most, Max: max(limit.Max, most)}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
			return most
		}
		more = unix.Rlimit{Cur: limit.Max, Max: limit.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
			return limit.Max
		}
	}
	return min(limit.Cur, most)
}

// Reserve takes all descriptors but so many, until release is called. It is for
// tests of what happens when there are no more.
func (b *Budget) Reserve(left int64) (release func()) {
	n := b.descriptors.limit - b.descriptors.used.Load() - left
	b.descriptors.used.Add(n)
	return func() { b.descriptors.give(n) }
}
