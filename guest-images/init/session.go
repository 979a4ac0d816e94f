package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vmm/run/protocol"
)

// hostCID is the host's address. virtio §5.10.4.
const hostCID = 2

// session is a connection to the host, for one program.
type session struct {
	fd   int // conn's: its method Fd would have it block
	conn *os.File
	to   *protocol.Writer
}

func newSession(fd int) (*session, error) {
	if err := unix.SetNonblock(fd, true); err != nil { // so that it can be closed while it is read
		unix.Close(fd)
		return nil, err
	}
	conn := os.NewFile(uintptr(fd), "vsock")
	s := &session{fd: fd, conn: conn, to: protocol.NewWriter(conn)}
	return s, s.to.Number(protocol.Hello, protocol.Version)
}

// dial connects to the host.
func dial() (*session, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: hostCID, Port: protocol.HostPort}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return newSession(fd)
}

// end ends the session, once the host has: it may have much to read still.
func (s *session) end() {
	_ = unix.Shutdown(s.fd, unix.SHUT_WR)
	_ = s.conn.SetReadDeadline(time.Now().Add(endFor))
	_, _ = io.Copy(io.Discard, s.conn)
	s.conn.Close()
}

// endFor is how long the host may take to end a session. It may be writing to a
// slow terminal.
const endFor = time.Minute

// fail tells why there is no program, to the host if there is one.
func (s *session) fail(err error) error {
	if s == nil {
		return err
	}
	status, why := failure(err)
	return s.to.Exit(status, why)
}

// run executes a program for the host, to its end.
func (s *session) run(all *processes, p protocol.Process, main bool) error {
	streams, files, err := openStreams(p)
	if err != nil {
		return s.fail(err)
	}
	started, err := all.start(p, files, main)
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		streams.close()
		return s.fail(err)
	}
	defer streams.close()
	if err := s.to.Write(protocol.Started, nil); err != nil {
		return s.lost(all, started, main)
	}
	input := make(chan []byte, 1)
	gone := make(chan struct{}) // the host
	go func() {
		defer close(gone)
		defer close(input)
		if err := s.read(all, started, p, streams, input); !errors.Is(err, io.EOF) {
			say(fmt.Errorf("the host: %w", err))
		}
	}()
	go s.input(streams, input)
	var outputs sync.WaitGroup
	for kind, from := range map[protocol.Kind]*output{protocol.Stdout: streams.out, protocol.Stderr: streams.err} {
		if from != nil {
			outputs.Go(func() { from.copy(func(p []byte) error { return s.to.Write(kind, p) }) })
		}
	}
	select {
	case status := <-started.ended:
		if main {
			// As a container ends with its first process.
			all.end()
		}
		streams.out.finish()
		streams.err.finish()
		outputs.Wait()
		return s.to.Exit(statusOf(status), "")
	case <-gone:
		return s.lost(all, started, main)
	}
}

// lost ends the program of a session whose host has gone, and for the main program
// the guest.
func (s *session) lost(all *processes, p *process, main bool) error {
	if main {
		return errors.New("the host has gone")
	}
	_ = all.kill(p, unix.SIGHUP)
	return nil
}

// read obeys the host until the session ends, with io.EOF if the host has ended it.
func (s *session) read(all *processes, started *process, p protocol.Process, streams *streams, input chan<- []byte) error {
	buffer := make([]byte, protocol.MaxData)
	for {
		m, err := protocol.Read(s.conn, buffer)
		if err != nil {
			return err
		}
		switch m.Kind {
		case protocol.Stdin:
			select {
			case input <- bytes.Clone(m.Data):
			default:
				return errors.New("input that nobody asked for")
			}
		case protocol.Signal:
			n, err := m.Number()
			if err != nil {
				return err
			}
			_ = all.kill(started, unix.Signal(n)) // it may have ended
		case protocol.Resize:
			rows, columns, err := m.Size()
			if err != nil {
				return err
			}
			if p.Terminal {
				_ = resize(streams.terminal, rows, columns)
			}
		default:
			return fmt.Errorf("a message of kind %d, which is for a host", m.Kind)
		}
	}
}

// input asks the host for input, piece after piece, and gives it to the program.
func (s *session) input(streams *streams, pieces <-chan []byte) {
	for {
		if err := s.to.Write(protocol.Want, nil); err != nil {
			return
		}
		piece, ok := <-pieces
		if !ok {
			return
		}
		if len(piece) == 0 {
			streams.endInput()
			return
		}
		if _, err := streams.in.Write(piece); err != nil {
			return // nobody reads it any more
		}
	}
}

// serve accepts sessions that the host begins, and returns why it no longer can.
func serve(all *processes) error {
	l, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(l, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: protocol.GuestPort}); err != nil {
		return fmt.Errorf("port %d: %w", protocol.GuestPort, err)
	}
	if err := unix.Listen(l, 128); err != nil {
		return err
	}
	for {
		fd, from, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			time.Sleep(100 * time.Millisecond) // until another has ended
			continue
		default:
			return err
		}
		if vm, ok := from.(*unix.SockaddrVM); !ok || vm.CID != hostCID { // a program in this guest
			unix.Close(fd)
			continue
		}
		go func() {
			if err := answer(all, fd); err != nil {
				say(fmt.Errorf("a session: %w", err))
			}
		}()
	}
}

// answer does what the host asks for in a new session.
func answer(all *processes, fd int) error {
	s, err := newSession(fd)
	if err != nil {
		return err
	}
	defer s.end()
	m, err := protocol.Read(s.conn, make([]byte, protocol.MaxData))
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	switch m.Kind {
	case protocol.Exec:
		p, err := protocol.ReadProcess(bytes.NewReader(m.Data))
		if err != nil {
			return s.fail(err)
		}
		return s.run(all, *p, false)
	case protocol.Kill:
		n, err := m.Number()
		if err != nil {
			return err
		}
		if err := all.killMain(unix.Signal(n)); err != nil {
			return s.fail(err)
		}
		return s.to.Exit(0, "")
	}
	return fmt.Errorf("a message of kind %d, which begins no session", m.Kind)
}
