package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, which a filter looks at. <linux/seccomp.h>
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16 // six of eight bytes, the lower half first
)

// filter is the program that the kernel runs at each system call of a process that
// does these things.
func filter(g Group, pid uint32) []bpf.Instruction {
	// A call of another architecture, i386, say, has other numbers. The calls of
	// x32 have a bit in their number that ours lack.
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: dataArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AUDIT_ARCH_X86_64, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
		bpf.LoadAbsolute{Off: dataNumber, Size: 4},
	}
	done := map[uintptr]bool{}
	for _, first := range rules {
		if done[first.nr] {
			continue
		}
		done[first.nr] = true
		var body []bpf.Instruction
		for i := range rules {
			if r := &rules[i]; r.nr == first.nr && r.applies(g) {
				body = append(body, r.allow(pid)...)
			}
		}
		if body == nil {
			continue
		}
		body = append(body, bpf.RetConstant{Val: unix.SECCOMP_RET_TRAP})
		p = append(p,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(first.nr), SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(body))})
		p = append(p, body...)
	}
	return append(p, bpf.RetConstant{Val: unix.SECCOMP_RET_TRAP})
}

// allow lets a call through if the checks hold, and goes on behind itself if not.
func (r *rule) allow(pid uint32) []bpf.Instruction {
	p := []bpf.Instruction{bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}}
	for i := len(r.checks) - 1; i >= 0; i-- {
		c := r.checks[i]
		test := []bpf.Instruction{
			bpf.LoadAbsolute{Off: uint32(dataArgs + 8*c.arg), Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask},
		}
		for n, v := range c.any {
			want := v.n
			if want == ownProcess {
				want = pid
			}
			test = append(test, bpf.JumpIf{Cond: bpf.JumpEqual, Val: want, SkipTrue: uint8(len(c.any) - n)})
		}
		test = append(test, bpf.Jump{Skip: uint32(len(p))})
		p = append(test, p...)
	}
	return p
}

// filterCalls puts the filter in front of all threads of this process.
func filterCalls(g Group) error {
	if err := catchRefusals(); err != nil {
		return err
	}
	raw, err := bpf.Assemble(filter(g, uint32(os.Getpid())))
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := setFilter(program); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}
