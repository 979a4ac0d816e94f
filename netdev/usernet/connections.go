package usernet

import (
	"io"
	"net"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"vmm/netdev"
)

// Limits on TCP connections. A guest's memory on the host is their product: see
// docs/security.md.
const (
	// maxConnections is how many there may be in all, out of the guest and into
	// it, those that are closing included.
	maxConnections = 1024
	// maxFast is how many of them may have large buffers.
	maxFast = 16
	// lingerTimeout is how long the guest may take to acknowledge the end of a
	// connection that the host's side has closed.
	lingerTimeout = 30 * time.Second
	// A connection on which nothing moves is asked after this time whether it
	// is still there, and then every keepaliveInterval: a guest that has been
	// reset doesn't know its old ones.
	keepaliveIdle     = 10 * time.Minute
	keepaliveInterval = 30 * time.Second
	keepaliveCount    = 4
)

// size are the sizes of a connection's buffers, in bytes.
type size struct {
	window int // what waits in the network, in each direction
	copy   int // what is moved at once
}

var (
	// fast moves as much at once as fits into a frame, with the headers of IPv4
	// and of TCP with timestamps. A byte more would be a frame of its own.
	fast = size{window: 4 << 20, copy: netdev.UserMTU - 20 - 32}
	slow = size{window: 32 << 10, copy: 16 << 10}
)

// connections are the TCP connections of a guest.
type connections struct {
	slots, fast chan struct{} // one for each
}

func newConnections() *connections {
	return &connections{make(chan struct{}, maxConnections), make(chan struct{}, maxFast)}
}

// admit takes one more connection in, unless there are too many. Its end is to be
// told with leave.
func (c *connections) admit() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *connections) leave() { <-c.slots }

// carry moves data between the guest's end of a connection and the host's, until
// both are closed, and nothing of it is left in the network.
func (c *connections) carry(endpoint tcpip.Endpoint, queue *waiter.Queue, far *net.TCPConn) {
	near := gonet.NewTCPConn(queue, endpoint)
	defer linger(endpoint, queue)
	defer near.Close()
	host, err := newStream(far)
	if err != nil {
		return
	}
	size := slow
	select {
	case c.fast <- struct{}{}:
		defer func() { <-c.fast }()
		size = fast
	default:
		// The host's own buffers would grow to megabytes as well. Where it
		// doesn't take the numbers, it has smaller ones.
		_ = far.SetReadBuffer(size.window)
		_ = far.SetWriteBuffer(size.window)
	}
	// A reset by the guest ends the connection, also where the host has yet to
	// take what was sent before.
	reset := waiter.NewFunctionEntry(waiter.EventErr|waiter.EventHUp, func(waiter.EventMask) {
		if tcp.EndpointState(endpoint.State()) == tcp.StateError {
			far.Close()
		}
	})
	queue.EventRegister(&reset)
	defer queue.EventUnregister(&reset)
	options := endpoint.SocketOptions()
	options.SetReceiveBufferSize(int64(size.window), true)
	options.SetSendBufferSize(int64(size.window), true)
	idle, interval := tcpip.KeepaliveIdleOption(keepaliveIdle), tcpip.KeepaliveIntervalOption(keepaliveInterval)
	_ = endpoint.SetSockOpt(&idle) // of TCP, they do not fail
	_ = endpoint.SetSockOpt(&interval)
	_ = endpoint.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount)
	options.SetKeepAlive(true)
	var both sync.WaitGroup
	both.Go(func() { pump(near, host, size.copy) })
	both.Go(func() { pump(host, near, size.copy) })
	both.Wait()
}

// linger waits until the guest has taken what it was sent, up to the end of the
// connection. Otherwise the network would keep it for as long as TCP tries.
func linger(endpoint tcpip.Endpoint, queue *waiter.Queue) {
	entry, changed := waiter.NewChannelEntry(waiter.EventHUp)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	late := time.NewTimer(lingerTimeout)
	defer late.Stop()
	for {
		switch tcp.EndpointState(endpoint.State()) {
		case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
			return
		}
		select {
		case <-changed:
		case <-late.C:
			endpoint.Abort()
			return
		}
	}
}

// half is an end of a connection, of which each direction can be closed.
type half interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
}

// pump moves data until one end has no more.
func pump(to, from half, size int) {
	// Only Read and Write: the shortcuts of TCP connections copy in pieces of
	// half the size.
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, size))
	_ = to.CloseWrite() // of one that is closed: it is closed
	_ = from.CloseRead()
}
