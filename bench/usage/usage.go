// Package usage tells how much memory processes take, in the ways in which that
// can be counted: proc_pid_smaps(5), proc_pid_status(5).
package usage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Memory is what processes take, in bytes.
type Memory struct {
	PSS          int64 // each page divided by the number of processes that map it
	PrivateDirty int64 // pages of no other process, written to
	RSS          int64
	OutsideGuest int64 // RSS of all mappings but the guest's RAM
	PageTables   int64
}

// Add adds another process.
func (m *Memory) Add(o Memory) {
	m.PSS += o.PSS
	m.PrivateDirty += o.PrivateDirty
	m.RSS += o.RSS
	m.OutsideGuest += o.OutsideGuest
	m.PageTables += o.PageTables
}

// Of is the memory of processes; one that has ended takes none. Guest is the size
// of a guest's RAM in bytes, 0 without: mappings of at least half of it are it.
// Monitors divide RAM around the hole below 4 GiB, and it is far larger than
// anything else of theirs.
func Of(pids []int, guest int64) (Memory, error) {
	var sum Memory
	for _, pid := range pids {
		m, err := of(pid, guest)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return sum, err
		}
		sum.Add(m)
	}
	return sum, nil
}

// Parent is the process id of a process's parent: proc_pid_stat(5).
func Parent(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name before it, in parentheses, is the process's own choice.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	return strconv.Atoi(string(fields[1]))
}

func of(pid int, guest int64) (Memory, error) {
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return Memory{}, err
	}
	m := parseSmaps(smaps, guest)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, err
	}
	m.PageTables, _ = field(status, "VmPTE:")
	return m, nil
}

// parseSmaps adds up the mappings of a process. A guest's RAM may be several of
// them, side by side.
func parseSmaps(text []byte, guest int64) Memory {
	var m Memory
	var size, rss int64 // of mappings side by side
	var end string      // of the last
	flush := func() {
		if guest == 0 || size < guest/2 {
			m.OutsideGuest += rss
		}
		size, rss = 0, 0
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if from, to, anonymous, ok := parseMapping(lines.Text()); ok {
			if from != end || !anonymous {
				flush()
			}
			if end = to; !anonymous {
				end = "" // nothing continues a file
			}
			continue
		}
		name, rest, _ := strings.Cut(lines.Text(), ":")
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		if err != nil {
			continue
		}
		n *= 1024
		switch name {
		case "Size":
			size += n
		case "Rss":
			rss += n
			m.RSS += n
		case "Pss":
			m.PSS += n
		case "Private_Dirty":
			m.PrivateDirty += n
		}
	}
	flush()
	return m
}

// parseMapping reads the line with which a mapping begins:
//
//	7f0010000000-7f0010100000 r-xp 00000000 08:01 1234   /usr/bin/vmm
func parseMapping(line string) (from, to string, anonymous, ok bool) {
	words := strings.Fields(line)
	if len(words) < 5 || len(words[1]) != 4 {
		return "", "", false, false
	}
	from, to, ok = strings.Cut(words[0], "-")
	return from, to, words[4] == "0", ok
}

// field reads a number of kB from a file such as /proc/meminfo.
func field(text []byte, name string) (int64, error) {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s", name)
}

// Available is how much memory the host could give to new processes without
// swapping.
func Available() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return field(text, "MemAvailable:")
}

// Total is the memory of the host.
func Total() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return field(text, "MemTotal:")
}
