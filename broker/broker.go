// Package broker is a process that connects to unix sockets on behalf of one that is
// not trusted to: a monitor in its sandbox, whose guest names ports. The process knows
// the sockets' path from its start, and is told numbers only.
package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How the process is started: with Command and the path as arguments, its end of the
// line, and a pipe on which it says Ready, or what is wrong.
const (
	Command = "broker"
	LineFD  = 3
	ReadyFD = 4
	Ready   = "ready"
)

// A question is the number of a port; an answer is an error number, with a connection
// beside it where that is 0. Both are little-endian.
const (
	questionSize = 4
	answerSize   = 4
)

// Broker is the process.
type Broker struct {
	process *exec.Cmd
	mu      sync.Mutex // one question at a time
	fd      int        // our end of the line
}

// Start starts the process, out of this program: a command line of Command has to come
// to Serve. More are arguments for that command line.
func Start(path string, more ...string) (_ *Broker, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("broker: socketpair: %w", err)
	}
	line := os.NewFile(uintptr(fds[1]), "line")
	defer line.Close()
	said, ready, err := os.Pipe()
	if err != nil {
		unix.Close(fds[0])
		return nil, fmt.Errorf("broker: %w", err)
	}
	defer said.Close()
	b := &Broker{process: exec.Command("/proc/self/exe"), fd: fds[0]}
	b.process.Args = append([]string{os.Args[0], Command, path}, more...)
	b.process.ExtraFiles = []*os.File{line, ready} // LineFD, ReadyFD
	b.process.Stderr = os.Stderr
	// Ctrl-C is for who asks to deal with.
	b.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = b.process.Start()
	ready.Close()
	if err != nil {
		unix.Close(b.fd)
		return nil, fmt.Errorf("broker: %w", err)
	}
	if answer, err := io.ReadAll(said); err != nil || string(answer) != Ready {
		ended := b.Close()
		if len(answer) > 0 {
			return nil, fmt.Errorf("broker: %s", answer)
		}
		return nil, fmt.Errorf("broker: %w", errors.Join(err, ended))
	}
	return b, nil
}

// Dial connects to the socket at the path with "_" and the port behind it. It does not
// wait: unix.EAGAIN says that there is no room in the socket's queue.
func (b *Broker) Dial(port uint32) (*net.UnixConn, error) {
	fd, err := b.ask(port)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "connection")
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return c.(*net.UnixConn), nil
}

func (b *Broker) ask(port uint32) (fd int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := unix.Write(b.fd, binary.LittleEndian.AppendUint32(nil, port)); err != nil {
		return -1, fmt.Errorf("broker: %w", err)
	}
	answer, beside := make([]byte, answerSize), make([]byte, unix.CmsgSpace(4))
	for {
		n, besides, _, _, err := unix.Recvmsg(b.fd, answer, beside, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return -1, fmt.Errorf("broker: %w", err)
		case n != answerSize:
			return -1, fmt.Errorf("broker: %w", io.ErrUnexpectedEOF)
		}
		if errno := binary.LittleEndian.Uint32(answer); errno != 0 {
			return -1, unix.Errno(errno)
		}
		return descriptor(beside[:besides])
	}
}

// descriptor is the one in a control message.
func descriptor(beside []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(beside)
	if err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, errors.New("broker: an answer without a connection")
}

// closeTimeout is how long the process may take to end.
const closeTimeout = time.Second

// Close ends the process. Connections stay.
func (b *Broker) Close() error {
	err := unix.Close(b.fd)
	late := time.AfterFunc(closeTimeout, func() { _ = b.process.Process.Kill() })
	defer late.Stop()
	return errors.Join(err, b.process.Wait())
}
