package gdb

import (
	"bufio"
	"errors"
	"fmt"
)

// session is one gdb's visit. All but reading is done by one goroutine.
type session struct {
	*Server
	out conn

	running bool
	ended   bool // the target is not to be touched any more
	current int  // the processor of g, m and so on
	resume  int  // the one of c and s; -1 for all
	last    Stop // why the target is stopped
	listed  int  // threads that have been told of by qfThreadInfo
}

// errDone ends a session in good order.
var errDone = errors.New("gdb: done")

// received is a packet, or the end.
type received struct {
	body []byte
	err  error
}

// run carries out what gdb asks for, first what has come already, until it goes.
func (s *session) run(r *bufio.Reader, first received) error {
	packets := make(chan received)
	quit := make(chan struct{})
	defer close(quit)
	s.resume = -1
	s.done.Go(func() {
		for p := first; ; p.body, p.err = readPacket(r) {
			select {
			case packets <- p:
			case <-quit:
				return
			}
			if p.err != nil && !errors.Is(p.err, errChecksum) {
				return
			}
		}
	})
	for {
		var stops <-chan Stop
		var gone <-chan struct{}
		if s.running {
			stops, gone = s.target.Stops(), s.gone
		}
		var err error
		select {
		case p := <-packets:
			err = s.receive(p)
		case stop := <-stops:
			err = s.stopped(stop)
		case <-gone:
			s.ended = true
			s.mu.Lock()
			status := s.status
			s.mu.Unlock()
			if err = s.out.send(fmt.Appendf(nil, "W%02x", uint8(status))); err == nil {
				err = errDone
			}
		}
		if errors.Is(err, errDone) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receive deals with what came.
func (s *session) receive(p received) error {
	switch {
	case errors.Is(p.err, errChecksum):
		return s.out.acknowledge(false)
	case p.err != nil:
		return p.err
	case len(p.body) == 1 && p.body[0] == '+':
		return nil
	case len(p.body) == 1 && p.body[0] == '-':
		return s.out.again()
	case len(p.body) == 1 && p.body[0] == interrupt:
		if !s.running {
			return nil
		}
		return s.stopped(Stop{CPU: s.current})
	}
	if err := s.out.acknowledge(true); err != nil {
		return err
	}
	if s.running { // all there is to say now is interrupt
		return s.out.send([]byte("E01"))
	}
	answer, err := s.command(p.body)
	if err != nil || answer == nil {
		return err
	}
	return s.out.send(answer)
}

// stopped halts the target and tells gdb why.
func (s *session) stopped(stop Stop) error {
	s.target.Halt()
	s.running = false
	s.current, s.last = stop.CPU, stop
	return s.out.send(s.why())
}

// why is a stop reply. GDB "Stop Reply Packets".
func (s *session) why() []byte {
	const sigINT, sigTRAP = 2, 5
	signal, reason := sigTRAP, ""
	switch s.last.Reason {
	case Interrupted:
		signal = sigINT
	case AtSoftware:
		reason = "swbreak:;"
	case AtHardware:
		reason = "hwbreak:;"
	case AtWatchWrite:
		reason = fmt.Sprintf("watch:%x;", s.last.Addr)
	case AtWatchRead:
		reason = fmt.Sprintf("rwatch:%x;", s.last.Addr)
	case AtWatchAccess:
		reason = fmt.Sprintf("awatch:%x;", s.last.Addr)
	}
	return fmt.Appendf(nil, "T%02xthread:%x;%s", signal, s.last.CPU+1, reason)
}

// resumeAll lets the processors do what actions says.
func (s *session) resumeAll(actions []Action) ([]byte, error) {
	if err := s.target.Resume(actions); err != nil {
		s.log.Error("gdb: the machine cannot go on", "error", err)
		return []byte("E01"), nil
	}
	s.running = true
	return nil, nil
}
