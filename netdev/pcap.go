package netdev

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"
)

// Capture records frames in a file of the format that tcpdump and Wireshark
// read: pcap, version 2.4, with nanoseconds. See pcap-savefile(5).
type Capture struct {
	mu   sync.Mutex
	file *os.File
	buf  []byte
	err  error
}

const (
	pcapMagic    = 0xa1b23c4d // times in nanoseconds
	pcapEthernet = 1
	pcapLongest  = 256 << 10
)

// NewCapture makes the file.
func NewCapture(path string) (*Capture, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("pcap: %w", err)
	}
	ne := binary.NativeEndian
	head := ne.AppendUint32(nil, pcapMagic)
	head = ne.AppendUint16(head, 2)
	head = ne.AppendUint16(head, 4)
	head = ne.AppendUint64(head, 0)
	head = ne.AppendUint32(head, pcapLongest)
	head = ne.AppendUint32(head, pcapEthernet)
	if _, err := file.Write(head); err != nil {
		file.Close()
		return nil, fmt.Errorf("pcap: %w", err)
	}
	return &Capture{file: file}, nil
}

// Frame records the frame in size bytes of the pieces, the first skip of which
// are left out. It may be called concurrently. After an error, which Close
// returns, nothing more is recorded: the guest's traffic goes on.
func (c *Capture) Frame(pieces [][]byte, skip, size int) {
	if size < skip {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	now := time.Now()
	n := uint32(size - skip)
	ne := binary.NativeEndian
	c.buf = ne.AppendUint32(c.buf[:0], uint32(now.Unix()))
	c.buf = ne.AppendUint32(c.buf, uint32(now.Nanosecond()))
	c.buf = ne.AppendUint32(c.buf, min(n, pcapLongest))
	c.buf = ne.AppendUint32(c.buf, n)
	for _, p := range pieces {
		p = p[:min(len(p), size)]
		size -= len(p)
		drop := min(skip, len(p))
		skip -= drop
		room := pcapLongest + 16 - len(c.buf)
		c.buf = append(c.buf, p[drop:][:min(len(p)-drop, room)]...)
	}
	_, c.err = c.file.Write(c.buf)
}

// Close closes the file.
func (c *Capture) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.file.Close()
	if c.err != nil {
		err = c.err
	}
	if err != nil {
		return fmt.Errorf("pcap: %w", err)
	}
	return nil
}
