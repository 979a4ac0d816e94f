package doctor

import "vmm/sandbox"

// ownSandbox looks what the sandbox can be here.
func ownSandbox() Sandbox {
	h := sandbox.Host()
	s := Sandbox{Missing: sandbox.Missing(), Seccomp: h.Seccomp == nil}
	s.Whole = len(s.Missing) == 0
	if h.Landlock == nil {
		s.Landlock = h.LandlockVersion
		if note := h.LandlockNote(); note != "" {
			s.Notes = append(s.Notes, "Landlock: "+note)
		}
	}
	return s
}

// write writes it for a person.
func (s Sandbox) write(line func(name, format string, args ...any)) {
	if s.Whole {
		line("sandbox", "whole: system calls (seccomp), files (Landlock, version %d), and the rest", s.Landlock)
	} else {
		line("sandbox", "not whole")
	}
	for _, m := range s.Missing {
		line("  missing", "%s", m)
	}
	for _, n := range s.Notes {
		line("  note", "%s", n)
	}
}
