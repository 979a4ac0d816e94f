package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"vmm/run/protocol"
)

// streams are this side's ends of a program's standard input and output.
type streams struct {
	terminal int // the descriptor of in and out, where they are a terminal
	in       *os.File
	out, err *output // err is nil with a terminal
}

// openStreams makes them, and the ends that the program gets.
func openStreams(p protocol.Process) (*streams, [3]*os.File, error) {
	if p.Terminal {
		fd, program, err := openTerminal(p)
		if err != nil {
			return nil, [3]*os.File{}, fmt.Errorf("a terminal: %w", err)
		}
		host := os.NewFile(uintptr(fd), "terminal")
		return &streams{terminal: fd, in: host, out: &output{host}}, [3]*os.File{program, program, program}, nil
	}
	var pairs [3][2]int // read, write
	for i := range pairs {
		if err := unix.Pipe2(pairs[i][:], unix.O_CLOEXEC); err != nil {
			return nil, [3]*os.File{}, err
		}
	}
	own := func(fd int) *os.File {
		_ = unix.SetNonblock(fd, true) // so that whoever waits for it can be called off
		return os.NewFile(uintptr(fd), "pipe")
	}
	given := func(fd int) *os.File { return os.NewFile(uintptr(fd), "pipe") }
	s := &streams{in: own(pairs[0][1]), out: &output{own(pairs[1][0])}, err: &output{own(pairs[2][0])}}
	return s, [3]*os.File{given(pairs[0][0]), given(pairs[1][1]), given(pairs[2][1])}, nil
}

// endInput tells the program that there is no more: at a terminal by its character
// for that, as Ctrl-D.
func (s *streams) endInput() {
	if s.err != nil {
		s.in.Close()
		return
	}
	const endOfTransmission = 4
	_, _ = s.in.Write([]byte{endOfTransmission})
}

func (s *streams) close() {
	s.in.Close()
	s.out.close()
	s.err.close()
}

// output is where a program's output comes from. Its methods do nothing on nil.
type output struct{ file *os.File }

// past is a deadline that is over.
var past = time.Unix(1, 0)

// copy hands pieces on until the end, or until nothing is left after finish.
func (o *output) copy(to func([]byte) error) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := o.file.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.rest(buffer, to)
			return
		}
		if n > 0 && to(buffer[:n]) != nil || err != nil {
			return // at the end of a terminal the error is EIO
		}
	}
}

// rest hands on what is there already.
func (o *output) rest(buffer []byte, to func([]byte) error) {
	raw, err := o.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		n := 0
		if raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buffer) }) != nil || err != nil || n <= 0 || to(buffer[:n]) != nil {
			return
		}
	}
}

// finish has copy take what is there, and end: the program has ended, and others may
// have the other end still.
func (o *output) finish() {
	if o != nil {
		_ = o.file.SetReadDeadline(past)
	}
}

func (o *output) close() {
	if o != nil {
		o.file.Close()
	}
}

// openTerminal opens a terminal: a descriptor, which does not block, and the end for
// the program.
func openTerminal(p protocol.Process) (fd int, program *os.File, err error) {
	fd, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = resize(fd, p.Rows, p.Columns)
	}
	if err == nil {
		program, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, program, nil
}

func resize(terminal int, rows, columns uint16) error {
	return unix.IoctlSetWinsize(terminal, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
}
