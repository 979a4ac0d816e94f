package gdb

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Answers to packets. An empty one says that a packet is not known. GDB
// "Overview".
var (
	ok      = []byte("OK")
	unknown = []byte{}
	invalid = []byte("E16") // EINVAL
	fault   = []byte("E0e") // EFAULT
)

// command carries out a packet and returns the answer; nil for none.
func (s *session) command(p []byte) ([]byte, error) {
	if len(p) == 0 {
		return unknown, nil
	}
	rest := p[1:]
	switch p[0] {
	case '?':
		return s.why(), nil
	case 'g':
		return s.readRegisters(), nil
	case 'G':
		return s.writeRegisters(rest), nil
	case 'p':
		return s.readRegister(rest), nil
	case 'P':
		return s.writeRegister(rest), nil
	case 'm':
		return s.readMemory(rest), nil
	case 'M', 'X':
		return s.writeMemory(rest, p[0] == 'X'), nil
	case 'Z', 'z':
		return s.breakpoint(rest, p[0] == 'Z'), nil
	case 'H':
		return s.choose(rest), nil
	case 'T':
		if cpu, valid := s.thread(rest); valid && cpu >= 0 {
			return ok, nil
		}
		return invalid, nil
	case 'c', 's', 'C', 'S':
		return s.move(p)
	case 'D':
		s.target.Detach()
		s.ended = true
		if err := s.out.send(ok); err != nil {
			return nil, err
		}
		return nil, errDone
	case 'k':
		return nil, s.kill()
	case 'q', 'Q', 'v':
		return s.general(p)
	}
	return unknown, nil
}

func (s *session) kill() error {
	s.ended = true
	s.target.Kill()
	return errDone
}

// general answers packets that have names.
func (s *session) general(p []byte) ([]byte, error) {
	text := string(p)
	name := text
	if i := strings.IndexAny(text, ":;,"); i >= 0 {
		name = text[:i]
	}
	switch name {
	case "qSupported":
		return fmt.Appendf(nil, "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+", maxPacket), nil
	case "QStartNoAckMode":
		err := s.out.send(ok)
		s.out.stopAcks()
		return nil, err
	case "qXfer":
		return s.transfer(text), nil
	case "qAttached":
		return []byte("1"), nil // to what ran before: gdb detaches when it ends
	case "qC":
		return fmt.Appendf(nil, "QC%x", s.current+1), nil
	case "qfThreadInfo", "qsThreadInfo":
		return s.threads(name == "qfThreadInfo"), nil
	case "qThreadExtraInfo":
		cpu, valid := s.thread([]byte(strings.TrimPrefix(text, "qThreadExtraInfo,")))
		if !valid || cpu < 0 {
			return invalid, nil
		}
		return hex.AppendEncode(nil, []byte(s.target.Describe(cpu))), nil
	case "qSymbol":
		return ok, nil // there is nothing that we look for
	case "vCont?":
		return []byte("vCont;c;C;s;S"), nil
	case "vCont":
		return s.vCont(text)
	case "vKill":
		if err := s.out.send(ok); err != nil {
			return nil, err
		}
		return nil, s.kill()
	}
	return unknown, nil
}

// transfer reads a part of the target description. GDB "General Query Packets",
// qXfer.
func (s *session) transfer(text string) []byte {
	where, isRead := strings.CutPrefix(text, "qXfer:features:read:target.xml:")
	if !isRead {
		return unknown
	}
	offset, length, valid := twoNumbers(where)
	if !valid || offset > uint64(len(s.xml)) {
		return invalid
	}
	part := s.xml[offset:]
	part = part[:min(uint64(len(part)), length)]
	body, n := escape([]byte(part))
	kind := byte('m')
	if offset+uint64(n) == uint64(len(s.xml)) {
		kind = 'l'
	}
	return append([]byte{kind}, body...)
}

// threads tells of some processors, until all have been told of.
func (s *session) threads(first bool) []byte {
	if first {
		s.listed = 0
	}
	n := s.target.Count()
	if s.listed == n {
		return []byte("l")
	}
	answer := []byte{'m'}
	for ; s.listed < n; s.listed++ {
		if len(answer) > 1 {
			answer = append(answer, ',')
		}
		answer = strconv.AppendInt(answer, int64(s.listed+1), 16)
	}
	return answer
}

// thread reads a thread's number: that of its processor, or -1 for all. 0 stands
// for any.
func (s *session) thread(text []byte) (cpu int, valid bool) {
	if string(text) == "-1" {
		return -1, true
	}
	n, err := strconv.ParseUint(string(text), 16, 31)
	if err != nil || n > uint64(s.target.Count()) {
		return 0, false
	}
	if n == 0 {
		return s.current, true
	}
	return int(n) - 1, true
}

// choose takes an H packet.
func (s *session) choose(p []byte) []byte {
	if len(p) < 2 {
		return invalid
	}
	cpu, valid := s.thread(p[1:])
	switch {
	case !valid:
		return invalid
	case p[0] == 'g' && cpu >= 0:
		s.current = cpu
	case p[0] == 'c':
		s.resume = cpu
	case p[0] != 'g':
		return unknown
	}
	return ok
}

// move takes c, s, C and S: the processor that Hc chose moves, and the others go
// on, as gdb expects of a target with threads.
func (s *session) move(p []byte) ([]byte, error) {
	step := p[0] == 's' || p[0] == 'S'
	args := p[1:]
	if p[0] == 'C' || p[0] == 'S' { // with a signal, which a vCPU cannot take
		_, after, found := bytes.Cut(args, []byte(";"))
		args = nil
		if found {
			args = after
		}
	}
	cpu := s.current
	if s.resume >= 0 {
		cpu = s.resume
	}
	if len(args) > 0 {
		addr, err := strconv.ParseUint(string(args), 16, 64)
		if err != nil {
			return invalid, nil
		}
		r, err := s.target.Registers(cpu)
		if err != nil {
			return fault, nil
		}
		r.SetUint(RIP, addr)
		if err := s.target.SetRegisters(cpu, r); err != nil {
			return fault, nil
		}
	}
	actions := make([]Action, s.target.Count())
	for i := range actions {
		actions[i] = Continue
	}
	if step {
		actions[cpu] = Step
	}
	return s.resumeAll(actions)
}

// vCont takes an action for each processor: the first that names it, or names
// none, counts. GDB "vCont".
func (s *session) vCont(text string) ([]byte, error) {
	actions := make([]Action, s.target.Count())
	chosen := make([]bool, len(actions))
	for _, part := range strings.Split(text, ";")[1:] {
		what, who, named := strings.Cut(part, ":")
		if what == "" {
			return invalid, nil
		}
		var action Action
		switch what[0] {
		case 'c', 'C':
			action = Continue
		case 's', 'S':
			action = Step
		default:
			return invalid, nil
		}
		cpu := -1
		if named {
			var valid bool
			if cpu, valid = s.thread([]byte(who)); !valid {
				return invalid, nil
			}
		}
		for i := range actions {
			if (cpu < 0 || i == cpu) && !chosen[i] {
				actions[i], chosen[i] = action, true
			}
		}
	}
	for _, a := range actions {
		if a != Stay {
			return s.resumeAll(actions)
		}
	}
	return invalid, nil // nobody would ever stop
}

func (s *session) readRegisters() []byte {
	r, err := s.target.Registers(s.current)
	if err != nil {
		return fault
	}
	var answer []byte
	for i, size := range s.sizes {
		answer = r.appendHex(answer, Register(i), size)
	}
	return answer
}

func (s *session) writeRegisters(p []byte) []byte {
	r, err := s.target.Registers(s.current)
	if err != nil {
		return fault
	}
	for i, size := range s.sizes {
		if len(p) < 2*size || !r.setHex(Register(i), size, p[:2*size]) {
			return invalid
		}
		p = p[2*size:]
	}
	if err := s.target.SetRegisters(s.current, r); err != nil {
		return fault
	}
	return ok
}

func (s *session) readRegister(p []byte) []byte {
	i, err := strconv.ParseUint(string(p), 16, 31)
	if err != nil || i >= uint64(len(s.sizes)) {
		return invalid
	}
	r, err := s.target.Registers(s.current)
	if err != nil {
		return fault
	}
	return r.appendHex(nil, Register(i), s.sizes[i])
}

func (s *session) writeRegister(p []byte) []byte {
	number, value, _ := bytes.Cut(p, []byte("="))
	i, err := strconv.ParseUint(string(number), 16, 31)
	if err != nil || i >= uint64(len(s.sizes)) {
		return invalid
	}
	r, err := s.target.Registers(s.current)
	if err != nil {
		return fault
	}
	if !r.setHex(Register(i), s.sizes[i], value) {
		return invalid
	}
	if err := s.target.SetRegisters(s.current, r); err != nil {
		return fault
	}
	return ok
}

// readMemory answers with what is mapped of a range, as gdb expects.
func (s *session) readMemory(p []byte) []byte {
	addr, n, valid := twoNumbers(string(p))
	if !valid {
		return invalid
	}
	data := make([]byte, min(n, (maxPacket-8)/2))
	got, err := s.target.ReadMemory(s.current, addr, data)
	if err != nil {
		return fault
	}
	return hex.AppendEncode(make([]byte, 0, 2*got), data[:got])
}

func (s *session) writeMemory(p []byte, binary bool) []byte {
	where, data, found := bytes.Cut(p, []byte(":"))
	addr, n, valid := twoNumbers(string(where))
	if !found || !valid {
		return invalid
	}
	if binary {
		data = unescape(data)
	} else {
		decoded := make([]byte, hex.DecodedLen(len(data)))
		if _, err := hex.Decode(decoded, data); err != nil {
			return invalid
		}
		data = decoded
	}
	if uint64(len(data)) != n {
		return invalid
	}
	if n == 0 { // gdb asks whether we know binary data
		return ok
	}
	if err := s.target.WriteMemory(s.current, addr, data); err != nil {
		return fault
	}
	return ok
}

// breakpoint takes Z and z: kind,address,size.
func (s *session) breakpoint(p []byte, insert bool) []byte {
	kind, where, found := strings.Cut(string(p), ",")
	where, _, _ = strings.Cut(where, ";") // conditions are gdb's own affair
	addr, size, valid := twoNumbers(where)
	k, err := strconv.ParseUint(kind, 16, 8)
	if !found || !valid || err != nil {
		return invalid
	}
	if k > uint64(WatchAccess) {
		return unknown
	}
	b := Breakpoint{Kind: Kind(k), Addr: addr, Size: size}
	if insert {
		err = s.target.Insert(s.current, b)
	} else {
		err = s.target.Remove(b)
	}
	if err != nil {
		return []byte("E." + strings.Map(plain, err.Error()))
	}
	return ok
}

// plain keeps what can stand in a packet.
func plain(r rune) rune {
	if r < ' ' || r > '~' || strings.ContainsRune("$#}*", r) {
		return '?'
	}
	return r
}

// twoNumbers reads two hexadecimal numbers with a comma between.
func twoNumbers(text string) (a, b uint64, valid bool) {
	first, second, found := strings.Cut(text, ",")
	a, err1 := strconv.ParseUint(first, 16, 64)
	b, err2 := strconv.ParseUint(second, 16, 64)
	return a, b, found && err1 == nil && err2 == nil
}
