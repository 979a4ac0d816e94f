package usage

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSmaps(t *testing.T) {
	text := `7f0000000000-7f0008000000 rw-p 00000000 00:00 0
Size:             131072 kB
KernelPageSize:        4 kB
Rss:               30000 kB
Pss:               30000 kB
Shared_Clean:          0 kB
Private_Dirty:     29000 kB
VmFlags: rd wr mr mw me ac
7f0008000000-7f0008001000 rw-p 00000000 00:00 0
Size:                  4 kB
Rss:                   4 kB
Pss:                   4 kB
Private_Dirty:         4 kB
7f0009000000-7f0009001000 rw-p 00000000 00:00 0
Size:                  4 kB
Rss:                   4 kB
Pss:                   4 kB
Private_Dirty:         4 kB
7f0010000000-7f0010100000 r-xp 00000000 08:01 1234   /usr/bin/vmm: a name
Size:               1024 kB
Rss:                 800 kB
Pss:                 400 kB
Private_Dirty:         0 kB
THPeligible:           0
`
	want := Memory{PSS: 30408 << 10, PrivateDirty: 29008 << 10, RSS: 30808 << 10, OutsideGuest: 804 << 10}
	if diff := cmp.Diff(want, parseSmaps([]byte(text), 128<<20)); diff != "" {
		t.Error(diff)
	}
}

func TestOfThisProcess(t *testing.T) {
	kept := make([]byte, 64<<20)
	for i := range kept {
		kept[i] = 1
	}
	m, err := Of([]int{os.Getpid(), 1 << 22}, 0) // and one that cannot be
	if err != nil {
		t.Fatal(err)
	}
	if m.PrivateDirty < int64(len(kept)) || m.RSS < m.PSS || m.OutsideGuest != m.RSS || m.PageTables == 0 {
		t.Errorf("Of this process = %+v, want at least the 64 MiB it holds", m)
	}
	if kept[0] != 1 {
		t.Fatal("unreachable: keeps the memory alive")
	}
}

func TestParent(t *testing.T) {
	if got, err := Parent(os.Getpid()); err != nil || got != os.Getppid() {
		t.Errorf("Parent of this process: %d, %v, want %d", got, err, os.Getppid())
	}
	if _, err := Parent(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Parent of no process: %v", err)
	}
}
