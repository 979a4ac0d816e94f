package usernet

import (
	"io"
	"net"
	"syscall"

	"vmm/memory"
)

// stream is a connection that was made on the host. One goroutine may read while
// another writes.
type stream struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out transfer
}

func newStream(c *net.TCPConn) (*stream, error) {
	raw, err := c.SyscallConn()
	s := &stream{TCPConn: c, raw: raw}
	s.in.use((*memory.Vector).Readv)
	s.out.use((*memory.Vector).Writev)
	return s, err
}

// Read implements io.Reader. That of the connection would announce a system call
// that does not block to Go's scheduler: see memory.Vector.
func (s *stream) Read(p []byte) (int, error) {
	t := &s.in
	t.vector.Set([][]byte{p})
	if err := s.raw.Read(t.try); err != nil {
		return 0, err
	}
	if t.err == nil && t.n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return t.n, t.err
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	t := &s.out
	for t.vector.Set([][]byte{p}); !t.vector.Empty(); t.vector.Skip(t.n) {
		if err := s.raw.Write(t.try); err != nil {
			return len(p) - t.vector.Len(), err
		}
		if t.err != nil {
			return len(p) - t.vector.Len(), t.err
		}
	}
	return len(p), nil
}
