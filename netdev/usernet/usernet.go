// Package usernet is a network of a guest's own: a TCP/IP stack in a process of
// the user's, which makes the guest's connections as its own. It needs no rights.
package usernet

import (
	"io"
	"log"

	stacklog "gvisor.dev/gvisor/pkg/log"

	"vmm/netdev"
)

// Network is a network that has been set up. There is one in a process, and it
// ends with it.
type Network struct{ gateway *gateway }

// New sets up a network whose guest is at the other end of wire, a socket that
// carries a frame with its header in each message.
func New(wire int, c netdev.UserConfig) (*Network, error) {
	// The libraries log what a guest can cause as often as it likes.
	log.SetOutput(io.Discard)
	stacklog.SetLevel(stacklog.Warning)
	stacklog.SetTarget(stacklog.GoogleEmitter{Writer: &stacklog.Writer{Next: io.Discard}})
	w, err := newWire(wire)
	if err != nil {
		return nil, err
	}
	g, err := newGateway(w, c)
	return &Network{g}, err
}

// Serve serves the guest until its end of the wire is closed.
func (n *Network) Serve() {
	go n.gateway.send()
	n.gateway.receive()
}
