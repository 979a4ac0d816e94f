package socket

import (
	"errors"
	"net"
	"time"
)

// Accept calls f with each connection that comes to l, until l is closed. When
// the host has no room for another, it tries again a little later.
func Accept(l net.Listener, f func(net.Conn)) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptAgain)
			continue
		}
		f(c)
	}
}

// acceptAgain is how long a host without file descriptors, say, is left alone.
const acceptAgain = 100 * time.Millisecond
