// Package ninep is a file server for 9P2000.L, the dialect of 9P that Linux
// speaks. Its files are a [share.Folder]'s; it knows messages, what the client has
// them stand for, and which of them are under way.
//
// A message is copied out of the client's memory once, and then checked; the data
// of files go straight between that memory and the file. Whatever a client sends,
// it gets an answer, if there is room for one, and harms only itself.
package ninep

import (
	"sync"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// Server serves a folder to one client.
type Server struct {
	folder  *share.Folder
	running sync.WaitGroup // goroutines that serve a call
	calls   sync.Pool      // of *call

	mu      sync.Mutex
	session *session
	pending map[uint16]*call // by tag
}

// session is what a client and the server know of each other, from one Tversion to
// the next.
type session struct {
	msize uint32
	*fids
}

// New returns the server of a folder.
func New(folder *share.Folder) *Server {
	s := &Server{folder: folder, pending: map[uint16]*call{}}
	s.calls.New = func() any { return new(call) }
	s.begin(minMessage)
	return s
}

// Handle answers a message in the memory in, with one that it writes to out. It
// calls done with the size of the answer when it touches neither any more: before
// it returns, or later, in another goroutine; 0 when there is no room for an
// answer, or no message. more says that other messages wait behind this one. done
// calls nothing of the server's. Handle is for one goroutine.
func (s *Server) Handle(in, out [][]byte, more bool, done func(n int)) {
	c := s.calls.Get().(*call)
	c.server, c.in, c.room, c.done = s, in, out, done
	if !c.receive() {
		done(0)
		s.recycle(c)
		return
	}
	if c.kind == tFlush && s.wait(c) {
		return
	}
	s.mu.Lock()
	c.session = s.session
	used := s.pending[c.tag] != nil
	if !used {
		s.pending[c.tag] = c
	}
	s.mu.Unlock()
	switch {
	case used:
		done(c.fail(unix.EINVAL))
		s.recycle(c)
	case c.blocks(more) && s.folder.Budget().TakeWorker():
		s.running.Go(func() {
			defer s.folder.Budget().GiveWorker()
			s.serve(c)
		})
	default:
		// Whatever else may be under way, the client waits for this.
		s.serve(c)
	}
}

// wait has a Tflush wait for the message that it names, and reports whether there
// is such a message under way. A message waits only for one that came before it:
// two do not wait for each other, and none for itself.
func (s *Server) wait(c *call) bool {
	d := c.body
	m := d.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.pending[m.oldTag]
	if !d.ok() || old == nil || s.pending[c.tag] != nil {
		return false
	}
	s.pending[c.tag] = c
	old.flushes = append(old.flushes, c)
	return true
}

func (s *Server) serve(c *call) {
	n := c.answer()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(c, n)
}

// finish hands in the answer to a call, and then those to the messages that wait
// for it. The client may use the tag again as soon as it sees the answer, but
// nobody looks for it before this is over.
func (s *Server) finish(c *call, n int) {
	c.done(n)
	delete(s.pending, c.tag)
	for _, flush := range c.flushes {
		s.finish(flush, flush.answer())
	}
	s.recycle(c)
}

// recycle keeps a call for a message to come.
func (s *Server) recycle(c *call) {
	c.reset()
	s.calls.Put(c)
}

// begin starts a new session; the fids of the one before are gone.
func (s *Server) begin(msize uint32) {
	s.mu.Lock()
	old := s.session
	s.session = &session{msize, newFIDs()}
	s.mu.Unlock()
	if old != nil {
		old.end()
	}
}

// Wait waits until everything has been answered. Handle is not running.
func (s *Server) Wait() { s.running.Wait() }

// Reset is Wait, and forgets the client.
func (s *Server) Reset() {
	s.Wait()
	s.begin(minMessage)
}

// Close lets go of the folder, after Reset.
func (s *Server) Close() error {
	s.session.end()
	return s.folder.Close()
}
