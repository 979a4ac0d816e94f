package gdb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// maxPacket is the longest packet that is accepted, in bytes; gdb is told so.
const maxPacket = 16 << 10

// interrupt is the byte by which gdb asks a running target to stop.
const interrupt = 0x03

// errChecksum says that a packet arrived damaged.
var errChecksum = errors.New("gdb: a packet with a wrong checksum")

// errLong says that a packet is longer than any that was agreed on.
var errLong = fmt.Errorf("gdb: a packet of more than %d bytes", maxPacket)

// errForeign says that what came is not the protocol: an HTTP request, say, by which
// a web page would have a guest's memory written.
var errForeign = errors.New("what came is not gdb's remote protocol")

// readPacket reads what comes next: the contents of a packet, or one of the
// bytes '+', '-' and interrupt, which stand outside packets. gdb sends no others
// there. GDB "Overview".
func readPacket(r *bufio.Reader) ([]byte, error) {
	c, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	switch c {
	case '+', '-', interrupt:
		return []byte{c}, nil
	case '$':
		return readBody(r)
	}
	return nil, errForeign
}

// isByte reports whether what readPacket returned is one of those bytes.
func isByte(body []byte) bool {
	return len(body) == 1 && (body[0] == '+' || body[0] == '-' || body[0] == interrupt)
}

// readBody reads a packet after its '$'. A new '$' begins anew.
func readBody(r *bufio.Reader) ([]byte, error) {
	var body []byte
	var sum byte
	for {
		c, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		switch c {
		case '$':
			body, sum = body[:0], 0
			continue
		case '#':
			return body, checkSum(r, sum)
		}
		if len(body) == maxPacket {
			return nil, errLong
		}
		body = append(body, c)
		sum += c
	}
}

func checkSum(r *bufio.Reader, sum byte) error {
	var digits [2]byte
	if _, err := io.ReadFull(r, digits[:]); err != nil {
		return err
	}
	if want := fmt.Sprintf("%02x", sum); string(bytes.ToLower(digits[:])) != want {
		return errChecksum
	}
	return nil
}

// unescape undoes the escapes of binary data. GDB "Binary Data".
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '}' && i+1 < len(b) {
			i++
			c = b[i] ^ 0x20
		}
		out = append(out, c)
	}
	return out
}

// escape escapes binary data, as far as a packet of the largest size has room,
// and says how much of it that was.
func escape(data []byte) (out []byte, n int) {
	const overhead = 8
	for _, c := range data {
		if len(out) > maxPacket-overhead {
			break
		}
		switch c {
		case '$', '#', '}', '*':
			out = append(out, '}', c^0x20)
		default:
			out = append(out, c)
		}
		n++
	}
	return out, n
}

// conn is a connection to gdb.
type conn struct {
	w io.Writer

	mu   sync.Mutex
	last []byte // the last packet sent, for when it is asked for again
	acks bool   // packets are acknowledged
}

// send sends a packet.
func (c *conn) send(body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum byte
	for _, b := range body {
		sum += b
	}
	c.last = append(append(append(c.last[:0], '$'), body...), fmt.Sprintf("#%02x", sum)...)
	_, err := c.w.Write(c.last)
	return err
}

// again sends the last packet again, which arrived damaged.
func (c *conn) again() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.w.Write(c.last)
	return err
}

// acknowledge answers a packet, good or not, as long as that is done.
func (c *conn) acknowledge(good bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.acks {
		return nil
	}
	answer := []byte{'-'}
	if good {
		answer[0] = '+'
	}
	_, err := c.w.Write(answer)
	return err
}

// stopAcks ends acknowledgements. GDB "Packet Acknowledgment".
func (c *conn) stopAcks() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks = false
}
