// Package usernet is a network of a guest's own: a TCP/IP stack in a process of
// the user's, which makes the guest's connections as its own. It needs no rights.
package usernet

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"vmm/netdev"
)

// Network is a network that has been set up. There is one in a process, and it
// ends with it.
type Network struct{ gateway *gateway }

// New sets up a network whose guest is at the other end of wire, a socket that
// carries a frame with its header in each message.
func New(wire int, forwards []netdev.Forward) (*Network, error) {
	// The libraries log each connection that fails, of which a guest can make
	// as many as it likes.
	logrus.SetOutput(io.Discard)
	log.SetOutput(io.Discard)
	w, err := newWire(wire)
	if err != nil {
		return nil, err
	}
	for _, f := range forwards {
		// The library would find out too, but in other words.
		if err := available(f); err != nil {
			return nil, err
		}
	}
	g, err := newGateway(w, forwards)
	return &Network{g}, err
}

// Serve serves the guest until its end of the wire is closed.
func (n *Network) Serve() {
	go n.gateway.send()
	n.gateway.receive()
}

// available reports whether an address can be listened at.
func available(f netdev.Forward) error {
	var err error
	if f.UDP {
		var c net.PacketConn
		if c, err = net.ListenPacket("udp", f.Host.String()); err == nil {
			return c.Close()
		}
	} else {
		var l net.Listener
		if l, err = net.Listen("tcp", f.Host.String()); err == nil {
			return l.Close()
		}
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("forward from %s: %w; choose another address or port", f.Host, err)
}
