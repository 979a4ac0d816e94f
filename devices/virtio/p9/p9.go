// Package p9 is the virtio 9P transport: it carries the messages of a file
// server's protocol, 9P2000.L, between the guest and the server. Each chain of
// the queue is a message and room for its answer. The virtio specification
// leaves the device to the protocol's; Linux's net/9p/trans_virtio.c and QEMU
// agree on it.
package p9

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"vmm/devices/virtio"
)

var le = binary.LittleEndian

const (
	featureTag virtio.Features = 1 << 0

	// queueSize is how many pieces a message and its answer may be in: those
	// of Linux may be in 128.
	queueSize = 128
	// maxPending is how many messages the server has at once. Each may make
	// it hold megabytes.
	maxPending = 32
)

// A message begins with its size in bytes, its type and its tag.
const (
	headerSize = 7
	// maxMessage is the largest message: the server's own limit.
	maxMessage = 4 << 20

	typeError       = 7  // Rlerror
	typeXattrWalk   = 30 // Txattrwalk
	typeXattrCreate = 32 // Txattrcreate

	errNotSupported = 95 // EOPNOTSUPP of Linux
)

// Server answers messages until there are no more. It writes each answer in
// order, but in as many pieces as it likes.
type Server interface {
	Serve(messages io.ReadCloser, answers io.WriteCloser) error
	Close() error
}

// Device is a 9P device.
type Device struct {
	tag     string
	server  Server
	session *session // from Activate to Reset
}

var _ virtio.Device = (*Device)(nil)

// New returns a device whose share has a tag, by which a guest mounts it.
func New(tag string, s Server) (*Device, error) {
	if len(tag) == 0 || len(tag) > 255 {
		return nil, fmt.Errorf("tag %q: it has 1 to 255 characters", tag)
	}
	return &Device{tag: tag, server: s}, nil
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{Type: virtio.Type9P, Features: featureTag, Queues: []uint16{queueSize}}
}

// ReadConfig implements virtio.Device: the tag, behind its length.
func (d *Device) ReadConfig(offset uint64, data []byte) {
	space := le.AppendUint16(nil, uint16(len(d.tag)))
	virtio.ReadConfig(append(space, d.tag...), offset, data)
}

// WriteConfig implements virtio.Device.
func (d *Device) WriteConfig(uint64, []byte) {}

// Activate implements virtio.Device.
func (d *Device) Activate(env *virtio.Env) error {
	q := env.Queues[0]
	if q == nil {
		return nil
	}
	s := &session{
		queue: q, messages: make(chan *request), closed: make(chan struct{}),
		room: make(chan struct{}, maxPending), pending: map[uint16]*request{},
	}
	s.served.Go(func() {
		// Its error is about a message that makes no sense, after which it
		// takes no more.
		_ = d.server.Serve((*reader)(s), (*writer)(s))
		s.close()
	})
	s.worker = virtio.StartWorker(q, s.serve)
	d.session = s
	return nil
}

// Reset implements virtio.Device. It waits for what the server is doing.
func (d *Device) Reset() {
	if s := d.session; s != nil {
		s.close()
		s.worker.Stop()
		s.served.Wait()
		d.session = nil
	}
}

// Close implements virtio.Device.
func (d *Device) Close() error { return d.server.Close() }

// session is a connection to the server, from Activate to Reset.
type session struct {
	queue  *virtio.Queue
	worker *virtio.Worker
	served sync.WaitGroup

	messages chan *request
	closing  sync.Once
	closed   chan struct{}
	room     chan struct{} // has a value for each pending request

	mu      sync.Mutex          // guards what follows
	pending map[uint16]*request // by tag
	spare   []*request

	reading *request // by the server; nil between messages
	left    uint32   // of that message
	answer  []byte   // what the server has written of an answer
}

// request is a chain with its message.
type request struct {
	chain virtio.Chain
	tag   uint16
	size  uint32
	head  [headerSize]byte
	begun int // bytes of head that the server has read
}

func (s *session) close() { s.closing.Do(func() { close(s.closed) }) }

// serve takes messages from the guest.
func (s *session) serve() {
	for {
		r := s.request()
		if !s.queue.Pop(&r.chain) {
			s.mu.Lock()
			s.spare = append(s.spare, r)
			s.mu.Unlock()
			return
		}
		if !s.admit(r) {
			continue
		}
		select {
		case s.room <- struct{}{}:
		case <-s.closed:
			return
		}
		select {
		case s.messages <- r:
		case <-s.closed:
			return
		}
	}
}

func (s *session) request() *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.spare) - 1; last >= 0 {
		r := s.spare[last]
		s.spare = s.spare[:last]
		return r
	}
	return new(request)
}

// admit looks at a message's header, once: the guest may change it at any
// moment. What the server could not cope with it does not get.
func (s *session) admit(r *request) bool {
	in := &r.chain.Readable
	length := in.Len()
	in.Read(r.head[:])
	r.size, r.tag, r.begun = le.Uint32(r.head[:]), le.Uint16(r.head[5:]), 0
	if length < headerSize || r.size < headerSize || uint64(r.size) > length || r.size > maxMessage {
		s.finish(r, nil)
		return false
	}
	if t := r.head[4]; t == typeXattrWalk || t == typeXattrCreate {
		// The share has no extended attributes. The server would call a look
		// for one invalid, after which Linux executes no file, and would keep
		// one that is made until it is whole, however large.
		s.finish(r, errorAnswer(r.tag, errNotSupported))
		return false
	}
	s.mu.Lock()
	taken := s.pending[r.tag] != nil
	if !taken {
		s.pending[r.tag] = r
	}
	s.mu.Unlock()
	if taken {
		s.finish(r, nil)
	}
	return !taken
}

func errorAnswer(tag uint16, errno uint32) []byte {
	b := le.AppendUint32(nil, headerSize+4)
	b = append(b, typeError)
	return le.AppendUint32(le.AppendUint16(b, tag), errno)
}

// finish gives a chain back with an answer; none, when the message was none.
func (s *session) finish(r *request, answer []byte) {
	n := 0
	if uint64(len(answer)) <= r.chain.Writable.Len() {
		n = r.chain.Writable.Write(answer)
	}
	s.queue.Push(&r.chain, uint32(n))
	s.queue.Notify()
	s.mu.Lock()
	s.spare = append(s.spare, r)
	s.mu.Unlock()
}

// reader is the messages as the server reads them: one after the other, each as
// long as its header said when it was looked at.
type reader session

func (r *reader) Read(p []byte) (int, error) {
	s := (*session)(r)
	for s.left == 0 {
		select {
		case s.reading = <-s.messages:
			s.left = s.reading.size
		case <-s.closed:
			return 0, io.EOF
		}
	}
	p = p[:min(len(p), int(s.left))]
	n := copy(p, s.reading.head[s.reading.begun:])
	s.reading.begun += n
	if n == 0 {
		n = s.reading.chain.Readable.Read(p)
	}
	s.left -= uint32(n)
	return n, nil
}

func (r *reader) Close() error { return nil }

// writer takes the answers that the server writes.
type writer session

var errAnswer = errors.New("9p: the server's answer makes no sense")

func (w *writer) Write(p []byte) (int, error) {
	s := (*session)(w)
	s.answer = append(s.answer, p...)
	for len(s.answer) >= headerSize {
		size := int(le.Uint32(s.answer))
		if size < headerSize {
			return 0, errAnswer
		}
		if len(s.answer) < size {
			break
		}
		s.deliver(s.answer[:size])
		s.answer = s.answer[:copy(s.answer, s.answer[size:])]
	}
	return len(p), nil
}

func (s *session) deliver(answer []byte) {
	tag := le.Uint16(answer[5:])
	s.mu.Lock()
	r := s.pending[tag]
	delete(s.pending, tag)
	s.mu.Unlock()
	if r == nil {
		return // about a message that could not be read: nobody waits
	}
	s.finish(r, answer)
	<-s.room
}

func (w *writer) Close() error { return nil }
