// Package protocol is what "vmm run" and the first process of its guest say to
// each other: docs/run.md describes it. Both sides check whatever the other says,
// for the guest is hostile, and a guest that is not is to be told of a host that
// is newer or older.
package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Version is that of the specification and of the messages. A side that is told
// another one says so and ends.
const Version = 1

// The ports of the virtio socket device.
const (
	// HostPort is where the host waits for the session of the guest's main program.
	HostPort = 1
	// GuestPort is where the guest waits for further sessions: programs to execute
	// beside, and signals.
	GuestPort = 1
)

// Kind is what a message is about.
type Kind uint8

// The kinds of messages. A session begins with Hello from the guest. On GuestPort the
// host answers with Exec or Kill.
const (
	Hello   Kind = 1 + iota // guest: its version, 4 bytes
	Exec                    // host: a Process, as JSON
	Kill                    // host: send the main program a signal, 4 bytes; Exit answers
	Started                 // guest: the program is executed
	Want                    // guest: the program takes more input: one Stdin
	Stdin                   // host: input; empty at its end
	Stdout                  // guest: output
	Stderr                  // guest: output
	Signal                  // host: a signal for the session's program, 4 bytes
	Resize                  // host: the terminal's rows and columns, 2 bytes each
	Exit                    // guest: the status, 4 bytes, and if it is not the program's, why: text
	kinds
)

// MaxData is the size of the largest message, in bytes.
const MaxData = 64 << 10

// MaxInput is the size of the largest piece of input, in bytes.
const MaxInput = 32 << 10

// Message is one of a session.
type Message struct {
	Kind Kind
	Data []byte
}

// headerSize is the size of what is in front of a message's data: the kind, three
// bytes of zero, and the length, little-endian.
const headerSize = 8

// Read reads a message. Its data is valid until the next call with the same buffer,
// which has room for MaxData. The error is io.EOF where the session ended between
// messages.
func Read(r io.Reader, buffer []byte) (Message, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Message{}, err
	}
	m := Message{Kind: Kind(h[0])}
	n := binary.LittleEndian.Uint32(h[4:])
	switch {
	case m.Kind == 0 || m.Kind >= kinds:
		return Message{}, fmt.Errorf("a message of the unknown kind %d", h[0])
	case h[1] != 0 || h[2] != 0 || h[3] != 0:
		return Message{}, errors.New("a message with other bytes than zero where none has a meaning")
	case n > MaxData:
		return Message{}, fmt.Errorf("a message of %d bytes; at most %d are taken", n, MaxData)
	}
	m.Data = buffer[:n]
	if _, err := io.ReadFull(r, m.Data); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Message{}, err
	}
	return m, nil
}

// Writer writes messages. Its methods may be called by several goroutines at once.
type Writer struct {
	mu sync.Mutex
	w  io.Writer
}

// NewWriter returns a writer of messages to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes a message.
func (w *Writer) Write(k Kind, data []byte) error {
	if len(data) > MaxData {
		return fmt.Errorf("a message of %d bytes", len(data))
	}
	all := make([]byte, headerSize, headerSize+len(data))
	all[0] = byte(k)
	binary.LittleEndian.PutUint32(all[4:], uint32(len(data)))
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.w.Write(append(all, data...))
	return err
}

// Number writes a message of a number.
func (w *Writer) Number(k Kind, n uint32) error {
	return w.Write(k, binary.LittleEndian.AppendUint32(nil, n))
}

// Resize writes the size of a terminal.
func (w *Writer) Resize(rows, columns uint16) error {
	return w.Write(Resize, binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, rows), columns))
}

// Exit writes how the program ended, or why it was not executed.
func (w *Writer) Exit(status uint8, why string) error {
	if len(why) > maxWhy {
		why = why[:maxWhy]
	}
	return w.Write(Exit, append(binary.LittleEndian.AppendUint32(nil, uint32(status)), why...))
}

// maxWhy is the length of the longest reason, in bytes.
const maxWhy = 4096

// Number is the number in a message of one: Hello, Kill and Signal.
func (m Message) Number() (uint32, error) {
	if len(m.Data) != 4 {
		return 0, fmt.Errorf("a message of kind %d with %d bytes instead of 4", m.Kind, len(m.Data))
	}
	return binary.LittleEndian.Uint32(m.Data), nil
}

// Size is the terminal's size in a Resize.
func (m Message) Size() (rows, columns uint16, err error) {
	if len(m.Data) != 4 {
		return 0, 0, fmt.Errorf("a terminal's size of %d bytes instead of 4", len(m.Data))
	}
	return binary.LittleEndian.Uint16(m.Data), binary.LittleEndian.Uint16(m.Data[2:]), nil
}

// Status is what an Exit says.
func (m Message) Status() (status uint8, why string, err error) {
	if len(m.Data) < 4 || len(m.Data) > 4+maxWhy {
		return 0, "", fmt.Errorf("an exit status of %d bytes", len(m.Data))
	}
	n := binary.LittleEndian.Uint32(m.Data)
	if n > 255 {
		return 0, "", fmt.Errorf("the exit status %d; the largest is 255", n)
	}
	return uint8(n), string(m.Data[4:]), nil
}

// Greet checks the first message of a guest.
func Greet(m Message) error {
	if m.Kind != Hello {
		return fmt.Errorf("the guest begins with a message of kind %d", m.Kind)
	}
	v, err := m.Number()
	if err == nil && v != Version {
		err = fmt.Errorf("the guest's first process speaks version %d of the protocol, and this vmm version %d; install both from one build", v, Version)
	}
	return err
}
