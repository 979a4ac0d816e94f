package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Allowed are the system calls that a process can make, by the filters that the
// kernel has for its threads: a call counts if one of the threads may make it with
// some arguments. filtered is false for a process without filters, which may make
// them all.
//
// Each thread is stopped for a moment, which the caller may not be waiting for as the
// process's parent: the one would take what the other waits for. It takes root's rights, and a kernel with
// CONFIG_CHECKPOINT_RESTORE: without it, no process seems to have filters.
func Allowed(pid int) (calls []string, filtered bool, err error) {
	tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return nil, false, err
	}
	open := make([]bool, len(names))
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return nil, false, err
		}
		filters, err := readFilters(tid)
		switch {
		case err == unix.ESRCH:
			continue // it has ended
		case err != nil:
			return nil, false, fmt.Errorf("filters of thread %d: %w", tid, err)
		case len(filters) == 0:
			return nil, false, nil
		}
		for nr := range open {
			open[nr] = open[nr] || !slices.ContainsFunc(filters, func(f []unix.SockFilter) bool { return !mayAllow(f, uint32(nr)) })
		}
	}
	for nr, is := range open {
		if is && names[nr] != "" {
			calls = append(calls, names[nr])
		}
	}
	return calls, true, nil
}

// readFilters reads the filters of a thread, as its tracer: ptrace(2).
func readFilters(tid int) (filters [][]unix.SockFilter, err error) {
	done := make(chan struct{})
	go func() { // a tracer is a thread, and this one ends with it
		defer close(done)
		runtime.LockOSThread()
		if err = unix.PtraceSeize(tid); err != nil {
			return
		}
		if err = unix.PtraceInterrupt(tid); err != nil {
			return
		}
		if _, err = unix.Wait4(tid, nil, unix.WALL, nil); err != nil {
			return
		}
		defer func() { _ = unix.PtraceDetach(tid) }()
		for {
			var f []unix.SockFilter
			if f, err = getFilter(tid, len(filters)); err == unix.ENOENT || err == unix.EINVAL && len(filters) == 0 {
				err = nil // there are no more
				return
			}
			if err != nil {
				return
			}
			filters = append(filters, f)
		}
	}()
	<-done
	return filters, err
}

// word is a value that is known or not.
type word struct {
	n     uint32
	known bool
}

// point is where a program is, with what decides how it goes on.
type point struct {
	pc   int
	a, x word
	m    [16]word
}

// mayAllow reports whether a filter lets a call through for some arguments: it goes all
// ways that the program may go. <linux/bpf_common.h>
func mayAllow(program []unix.SockFilter, nr uint32) bool {
	seen := map[point]bool{}
	ways := []point{{}}
	for len(ways) > 0 {
		p := ways[len(ways)-1]
		ways = ways[:len(ways)-1]
		for !seen[p] && p.pc < len(program) {
			seen[p] = true
			in := program[p.pc]
			p.pc++
			k := word{in.K, true}
			operand := k
			if in.Code&unix.BPF_X != 0 {
				operand = p.x
			}
			switch in.Code & 0x07 {
			case unix.BPF_LD:
				switch in.Code & 0xe0 {
				case unix.BPF_ABS:
					p.a = map[uint32]word{dataNumber: {nr, true}, dataArch: {unix.AUDIT_ARCH_X86_64, true}}[in.K]
				case unix.BPF_IMM:
					p.a = k
				case unix.BPF_MEM:
					p.a = p.m[in.K&15]
				default:
					p.a = word{}
				}
			case unix.BPF_LDX:
				if p.x = (word{}); in.Code&0xe0 == unix.BPF_IMM {
					p.x = k
				} else if in.Code&0xe0 == unix.BPF_MEM {
					p.x = p.m[in.K&15]
				}
			case unix.BPF_ST:
				p.m[in.K&15] = p.a
			case unix.BPF_STX:
				p.m[in.K&15] = p.x
			case unix.BPF_ALU:
				p.a = compute(in.Code&0xf0, p.a, operand)
			case unix.BPF_MISC:
				if in.Code&0xf8 == unix.BPF_TAX {
					p.x = p.a
				} else {
					p.a = p.x
				}
			case unix.BPF_RET:
				action := in.K & unix.SECCOMP_RET_ACTION_FULL
				if in.Code&0x18 != unix.BPF_K || action == unix.SECCOMP_RET_ALLOW || action == unix.SECCOMP_RET_LOG {
					return true
				}
				p.pc = len(program)
			case unix.BPF_JMP:
				yes, no := p.pc+int(in.Jt), p.pc+int(in.Jf)
				op := in.Code & 0xf0
				switch {
				case op == unix.BPF_JA:
					p.pc += int(in.K)
				case !p.a.known || !operand.known:
					other := p
					other.pc, p.pc = no, yes
					ways = append(ways, other)
				case holds(op, p.a.n, operand.n):
					p.pc = yes
				default:
					p.pc = no
				}
			}
		}
	}
	return false
}

func holds(op uint16, a, b uint32) bool {
	switch op {
	case unix.BPF_JEQ:
		return a == b
	case unix.BPF_JGT:
		return a > b
	case unix.BPF_JGE:
		return a >= b
	}
	return a&b != 0 // BPF_JSET
}

func compute(op uint16, a, b word) word {
	if !a.known || !b.known {
		return word{}
	}
	switch op {
	case unix.BPF_ADD:
		return word{a.n + b.n, true}
	case unix.BPF_SUB:
		return word{a.n - b.n, true}
	case unix.BPF_AND:
		return word{a.n & b.n, true}
	case unix.BPF_OR:
		return word{a.n | b.n, true}
	case unix.BPF_XOR:
		return word{a.n ^ b.n, true}
	case unix.BPF_LSH:
		return word{a.n << b.n, true}
	case unix.BPF_RSH:
		return word{a.n >> b.n, true}
	}
	return word{} // filters do not multiply numbers of calls
}
