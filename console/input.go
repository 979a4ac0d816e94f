package console

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Sink takes what is typed, as far as it has room: the guest's serial port.
type Sink interface {
	// Receive takes some of data, from its start, and says how much.
	Receive(data []byte) int
	// Ready has a value when Receive may take more than it did.
	Ready() <-chan struct{}
}

// escape is the key that begins a command to vmm, Ctrl-A, as in QEMU and GNU
// screen.
const escape = 0x01

// Help is what Ctrl-A h shows.
const Help = `
  Ctrl-A x       end the machine
  Ctrl-A h       this help
  Ctrl-A Ctrl-A  send Ctrl-A to the guest
`

// Commands are what the keys after Ctrl-A do.
type Commands struct {
	Quit func()
	Help func()
}

// Input copies what is typed to a guest, until Stop.
type Input struct {
	wake  *os.File      // closed by Stop, for a poll
	gone  chan struct{} // closed by Stop, for a select
	queue chan []byte
	done  sync.WaitGroup
}

// Start begins to copy from the terminal to sink, in goroutines that Stop
// ends. On a terminal in raw mode Ctrl-A begins a command; a pipe or file is
// passed on byte for byte. Its end is no event for the guest: a serial line
// has none.
//
// Reading and sending are apart, so that Ctrl-A x is seen while the guest does
// not take what was typed before it.
func (t *Terminal) Start(sink Sink, commands Commands) (*Input, error) {
	stopped, wake, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("console input: %w", err)
	}
	ahead, filter := 1, bytes.Clone
	if t.Raw() {
		// As far as a paste may run ahead of the guest: 4 MiB.
		ahead, filter = 1024, (&keys{commands: commands}).filter
	}
	i := &Input{wake: wake, gone: make(chan struct{}), queue: make(chan []byte, ahead)}
	i.done.Go(func() {
		defer stopped.Close()
		i.read(t.in, stopped, filter)
	})
	i.done.Go(func() { i.send(sink) })
	return i, nil
}

// errFull says that what was typed before has yet to be taken.
var errFull = errors.New("the guest does not take what was typed before")

// typeFor is how long Type waits for the guest to take what was typed before.
const typeFor = time.Second

// Type sends data to the guest, as if it had been typed in the terminal, where no
// key is a command. It returns when data is in the queue, and fails when there is
// no room for it: then none of it is sent.
func (i *Input) Type(data []byte) error {
	full := time.NewTimer(typeFor)
	defer full.Stop()
	select {
	case i.queue <- bytes.Clone(data):
		return nil
	case <-full.C:
		return errFull
	case <-i.gone:
		return errFull
	}
}

// Stop ends the copying and waits for it.
func (i *Input) Stop() {
	close(i.gone)
	i.wake.Close()
	i.done.Wait()
}

// read queues what is typed, in copies that filter makes.
func (i *Input) read(in, stopped *os.File, filter func([]byte) []byte) {
	buffer := make([]byte, 4096)
	for waitReadable(int(in.Fd()), int(stopped.Fd())) {
		n, err := unix.Read(int(in.Fd()), buffer)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		select {
		case i.queue <- filter(buffer[:n]):
		case <-i.gone:
			return
		}
	}
}

// send gives the guest what is queued, at the guest's pace.
func (i *Input) send(sink Sink) {
	for {
		var data []byte
		select {
		case data = <-i.queue:
		case <-i.gone:
			return
		}
		for len(data) > 0 {
			data = data[sink.Receive(data):]
			if len(data) == 0 {
				break
			}
			select {
			case <-sink.Ready():
			case <-i.gone:
				return
			}
		}
	}
}

// keys finds commands among the keys typed.
type keys struct {
	commands Commands
	escaped  bool // the last key was Ctrl-A
}

// filter removes commands from data, carries them out, and returns what is
// for the guest. What follows Ctrl-A and is no command goes to the guest, and
// the Ctrl-A before it.
func (k *keys) filter(data []byte) []byte {
	var out []byte
	for _, b := range data {
		switch {
		case !k.escaped && b == escape:
			k.escaped = true
			continue
		case !k.escaped:
			out = append(out, b)
			continue
		}
		k.escaped = false
		switch b {
		case 'x', 'X':
			k.commands.Quit()
		case 'h', 'H', '?':
			k.commands.Help()
		case escape, 'a':
			out = append(out, escape)
		default:
			out = append(out, escape, b)
		}
	}
	return out
}
