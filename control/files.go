package control

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// maxFiles is how many files a request brings at the most: those of a snapshot.
const maxFiles = 3

// filing is a connection that keeps the files which come over it. See unix(7),
// SCM_RIGHTS. More than maxFiles at a time are closed.
type filing struct {
	net.Conn
	files []*os.File
}

// Read implements io.Reader.
func (f *filing) Read(p []byte) (int, error) {
	u, ok := f.Conn.(*net.UnixConn)
	if !ok { // whoever is at the other end has no files to send
		return f.Conn.Read(p)
	}
	rights := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, size, _, _, err := u.ReadMsgUnix(p, rights)
	messages, parseErr := unix.ParseSocketControlMessage(rights[:size])
	if parseErr != nil {
		return n, err
	}
	for i := range messages {
		fds, _ := unix.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			if len(f.files) == maxFiles {
				unix.Close(fd)
				continue
			}
			f.files = append(f.files, os.NewFile(uintptr(fd), "a client's file"))
		}
	}
	return n, err
}

// forget closes the files that have come.
func (f *filing) forget() {
	for _, file := range f.files {
		file.Close()
	}
	f.files = nil
}

// send writes a request, which brings files.
func send(c net.Conn, request []byte, files []*os.File) error {
	u, ok := c.(*net.UnixConn)
	if !ok || len(files) == 0 {
		_, err := c.Write(request)
		return err
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	_, _, err := u.WriteMsgUnix(request, unix.UnixRights(fds...), nil)
	return err
}
