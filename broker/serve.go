package broker

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Serve answers what comes on the line until its other end is closed, however that
// comes about.
func Serve(line int, path string) error {
	question := make([]byte, questionSize+1)
	for {
		n, err := unix.Read(line, question)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("broker: %w", err)
		case n == 0:
			return nil
		case n != questionSize:
			return fmt.Errorf("broker: a question of %d bytes", n)
		}
		if err := answer(line, fmt.Sprintf("%s_%d", path, binary.LittleEndian.Uint32(question))); err != nil {
			return err
		}
	}
}

// answer connects to a socket, and hands the connection over.
func answer(line int, socket string) error {
	fd, err := connect(socket)
	var errno unix.Errno
	var beside []byte
	if err != nil {
		if !errors.As(err, &errno) {
			errno = unix.EIO
		}
	} else {
		defer unix.Close(fd)
		beside = unix.UnixRights(fd)
	}
	if err := unix.Sendmsg(line, binary.LittleEndian.AppendUint32(nil, uint32(errno)), beside, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

func connect(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
