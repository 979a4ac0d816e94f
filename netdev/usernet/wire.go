package usernet

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"vmm/memory"
	"vmm/netdev"
)

// wire is the network's end: frames without the header that the guest's have.
type wire struct{ syscall.RawConn }

func newWire(fd int) (*wire, error) {
	// So that waiting for a frame takes a goroutine, and not a thread.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	raw, err := os.NewFile(uintptr(fd), "wire").SyscallConn()
	return &wire{raw}, err
}

// Flags of the header. virtio §5.1.6.
const flagDataValid = 2 // the checksum is known to be right: the guest need not look

// receive reads a frame from the guest. That it may lack its checksum does no
// harm: the network does not look at it.
func (w *wire) receive(p []byte) (int, error) {
	return w.frame(p, [netdev.HeaderSize]byte{}, w.read)
}

// send sends a frame to the guest.
func (w *wire) send(p []byte) (int, error) {
	return w.frame(p, [netdev.HeaderSize]byte{0: flagDataValid, 10: 1}, w.write)
}

func (w *wire) frame(p []byte, header [netdev.HeaderSize]byte, move func(*memory.Vector) (int, error)) (int, error) {
	var v memory.Vector
	v.Set([][]byte{header[:], p})
	n, err := move(&v)
	return max(n-netdev.HeaderSize, 0), err
}

func (w *wire) read(v *memory.Vector) (n int, err error) {
	if e := w.RawConn.Read(func(fd uintptr) bool {
		n, err = v.Readv(int(fd))
		return err != unix.EAGAIN
	}); e != nil {
		return 0, e
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

func (w *wire) write(v *memory.Vector) (n int, err error) {
	if e := w.RawConn.Write(func(fd uintptr) bool {
		n, err = v.Writev(int(fd))
		return err != unix.EAGAIN
	}); e != nil {
		return 0, e
	}
	return n, err
}
