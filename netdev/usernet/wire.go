package usernet

import (
	"encoding/binary"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"vmm/memory"
	"vmm/netdev"
)

// wire is the network's end of the wire to the guest. One goroutine may receive
// while another sends; neither allocates.
type wire struct {
	raw syscall.RawConn
	// partial is set while the guest takes frames whose checksums are left to
	// do.
	partial atomic.Bool
	in, out struct {
		transfer
		header [netdev.HeaderSize]byte // in front of each frame
	}
}

// transfer moves data in one direction, through a file descriptor that does not
// block.
type transfer struct {
	vector memory.Vector
	n      int // what the last system call answered
	err    error
	try    func(fd uintptr) bool // makes it; false to wait and try again
}

// use sets the system call: Readv or Writev.
func (t *transfer) use(call func(*memory.Vector, int) (int, error)) {
	t.try = func(fd uintptr) bool {
		t.n, t.err = call(&t.vector, int(fd))
		return t.err != unix.EAGAIN
	}
}

func newWire(fd int) (*wire, error) {
	// So that waiting for a frame takes a goroutine, and not a thread.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	raw, err := os.NewFile(uintptr(fd), "wire").SyscallConn()
	w := &wire{raw: raw}
	w.in.use((*memory.Vector).Readv)
	w.out.use((*memory.Vector).Writev)
	return w, err
}

// receive reads a frame from the guest, without its header. That it may lack its
// checksum does no harm: the network does not look at it. Of a message that is no
// frame it returns 0 bytes.
func (w *wire) receive(p []byte) (int, error) {
	t := &w.in
	t.vector.Set([][]byte{t.header[:], p})
	if err := w.raw.Read(t.try); err != nil {
		return 0, err
	}
	switch {
	case t.err != nil:
		return 0, t.err
	case t.n == 0:
		return 0, io.EOF
	case t.n == netdev.UserOffloadSize:
		w.partial.Store(t.header[0]&unix.TUN_F_CSUM != 0)
	}
	return max(t.n-netdev.HeaderSize, 0), nil
}

// checksum says of a frame that the sum from one place on, over a start that is
// already there, is to be stored at another place: struct virtio_net_hdr_v1.
type checksum struct{ start, offset int }

// Flags of the header. virtio §5.1.6.
const flagNeedsChecksum = 1

// send sends a frame of the given pieces to the guest, with a checksum that is
// left to do, or nil.
func (w *wire) send(frame [][]byte, left *checksum) error {
	t := &w.out
	clear(t.header[:])
	t.header[10] = 1 // buffers that it is in
	if left != nil {
		t.header[0] = flagNeedsChecksum
		binary.LittleEndian.PutUint16(t.header[6:], uint16(left.start))
		binary.LittleEndian.PutUint16(t.header[8:], uint16(left.offset))
	}
	t.vector.Set([][]byte{t.header[:]})
	t.vector.Add(frame)
	if err := w.raw.Write(t.try); err != nil {
		return err
	}
	return t.err
}
