// Package sandbox closes a cage around this process: from then on it can do what it
// still needs, and nothing else, whoever is in control of it.
//
// The cage has layers, of which each holds where another has a hole: a filter of
// system calls (seccomp), rules about files (Landlock), no capabilities and no way
// to get any (no_new_privs), a process that other processes of the user cannot look
// into (dumpable), and limits. None of them takes rights to set up, and none can be
// undone. docs/security.md says what they are for.
//
// A call that the filter refuses ends the process: see Refusals.
package sandbox

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Mode says how much of the cage there has to be.
type Mode string

// The modes.
const (
	Auto   Mode = "auto"   // what this host's kernel has
	Strict Mode = "strict" // all of it, or an error
	Off    Mode = "off"    // nothing
)

// Needs are what a process will still do in its cage.
type Needs struct {
	// Groups are what it does, beside what every Go program does.
	Groups Group
	// Folders are the folders below which it opens files by name.
	Folders []Folder
	// Reads are files, and folders with what is below them, that it reads.
	Reads []string
	// Removes are the folders in which it removes files.
	Removes []string
	// Ports are the TCP ports that it connects to.
	Ports []uint16
	// Inspectable leaves other processes of the user the right to look into this
	// one through /proc.
	Inspectable bool
	// Files is how many files it has open at the most; 0 for as many as it may
	// now.
	Files uint64
}

// Folder is a folder with all that is below it.
type Folder struct {
	Path     string
	ReadOnly bool
}

// Cage is what is around this process.
type Cage struct {
	Mode         Mode     `json:"mode"`
	Layers       []Layer  `json:"layers"`
	Calls        []Call   `json:"calls"`        // that may be made; empty without a filter
	Folders      []string `json:"folders"`      // in which files may be opened or removed; empty for none
	Capabilities []string `json:"capabilities"` // of root that were kept; empty for none
}

// Layer is a layer of the cage.
type Layer struct {
	Name string `json:"name"`
	On   bool   `json:"on"`
	// Note says more: what is lacking, or how strong the layer is here.
	Note string `json:"note,omitempty"`
}

// Call is a system call that may be made.
type Call struct {
	Name string `json:"name"`
	// Limits are what its arguments may be; "" for anything.
	Limits string   `json:"limits,omitempty"`
	Why    []string `json:"why"`
}

// The layers by name.
const (
	layerFilter       = "system calls (seccomp)"
	layerFiles        = "files (Landlock)"
	layerPrivileges   = "no new privileges"
	layerCapabilities = "no capabilities"
	layerDumpable     = "closed to other processes"
	layerLimits       = "limits"
)

// Missing says which layers this host's kernel, or this program, lacks; nil for
// none. Each is a line for a user.
func Missing() []string {
	h := Host()
	if h.Threads != nil {
		return []string{h.Threads.Error()}
	}
	var all []string
	if h.Seccomp != nil {
		all = append(all, layerFilter+": "+h.Seccomp.Error())
	}
	if h.Landlock != nil {
		all = append(all, layerFiles+": "+h.Landlock.Error())
	}
	return all
}

// Enter closes the cage around all threads of this process. What it returns is what
// the cage is like, with the layers that the host lacks off; in mode Strict those
// are an error, and nothing has been closed.
//
// An error in between leaves the process half caged: it should end.
func Enter(mode Mode, n Needs) (*Cage, error) {
	c := &Cage{Mode: mode, Calls: []Call{}, Folders: []string{}, Capabilities: []string{}}
	if mode == Off {
		return c, nil
	}
	host := Host()
	if missing := Missing(); mode == Strict && len(missing) > 0 {
		return nil, fmt.Errorf("this host cannot have the whole sandbox: %s; use --sandbox=auto for what it can have", strings.Join(missing, "; "))
	}
	if host.Threads != nil {
		return c, nil
	}
	// What looks at files by name comes before Landlock; what takes system calls
	// that the filter refuses comes before the filter.
	rules, err := newRules(host, n)
	if err != nil {
		return nil, err
	}
	defer rules.close()
	if err := limit(n); err != nil {
		return nil, err
	}
	if !n.Inspectable {
		if err := hide(); err != nil {
			return nil, err
		}
	}
	if err := noNewPrivileges(); err != nil {
		return nil, err
	}
	if err := rules.restrict(); err != nil {
		return nil, err
	}
	kept, err := dropCapabilities(n)
	if err != nil {
		return nil, err
	}
	if host.Seccomp == nil {
		runtime.LockOSThread()
		err = filterCalls(n.Groups)
		runtime.UnlockOSThread()
		if err != nil {
			return nil, err
		}
		c.Calls = Calls(n.Groups)
	}
	c.Capabilities = append(c.Capabilities, kept...)
	c.Folders = append(c.Folders, rules.names...)
	c.Layers = []Layer{
		{layerFilter, host.Seccomp == nil, note(host.Seccomp)},
		{layerFiles, host.Landlock == nil, host.LandlockNote()},
		{layerPrivileges, true, ""},
		{layerCapabilities, true, ""},
		{layerDumpable, !n.Inspectable, ""},
		{layerLimits, true, ""},
	}
	return c, nil
}

func note(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Calls are the system calls that a process which does these things may make.
func Calls(g Group) []Call {
	var all []Call
	for _, r := range rules {
		if !r.applies(g) {
			continue
		}
		name := Name(r.nr)
		i := slices.IndexFunc(all, func(c Call) bool { return c.Name == name })
		if i < 0 {
			i = len(all)
			all = append(all, Call{Name: name})
		}
		c := &all[i]
		c.Why = append(c.Why, r.why)
		if limits := r.limits(); limits != "" && c.Limits != "" {
			c.Limits += " or " + limits
		} else if limits != "" {
			c.Limits = limits
		}
	}
	return all
}

// Name is the name of a system call by its number, as in its manual page.
func Name(nr uintptr) string {
	if nr < uintptr(len(names)) && names[nr] != "" {
		return names[nr]
	}
	return fmt.Sprintf("system call %d", nr)
}

// Refusal is the message about a system call that the filter refused.
func Refusal(call string) string { return refusalBefore + call + refusalAfter }

const (
	refusalBefore = "the sandbox refused a system call, "
	refusalAfter  = ", and vmm ends: either the guest has broken into it, or this is a bug of vmm's; please report it"
)
