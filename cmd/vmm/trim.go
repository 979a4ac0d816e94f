package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A machine has become what it will be, and vmm with it, when its guest needs vmm
// no longer than now and then: less than trimExits times in trimAfter.
const (
	trimAfter = 2 * time.Second
	trimExits = 10
)

// atRest does something a while after the start, when the machine has come to
// rest, and again if that was but a pause; exits counts how often its guest has
// needed vmm.
func atRest(exits func() uint64, do func()) (stop func()) {
	ended := make(chan struct{})
	before := exits()
	go func() {
		ticks := time.NewTicker(trimAfter)
		defer ticks.Stop()
		for first, done := true, false; ; first = false {
			select {
			case <-ended:
				return
			case <-ticks.C:
			}
			now := exits()
			rest := now-before < trimExits
			if rest && done {
				return
			}
			if done = rest; rest || first {
				do()
			}
			before = now
		}
	}()
	return sync.OnceFunc(func() { close(ended) })
}

// smallHeap is the size up to which a heap, what is free of it included, is left
// as it is, in bytes. A first collection of garbage takes some 400 KiB for itself
// and keeps them.
const smallHeap = 2 << 20

// trimming is what trim needs of /proc.
type trimming struct {
	program string
	maps    *os.File // of this process's memory
}

func newTrimming() (*trimming, error) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	return &trimming{program, maps}, nil
}

// trim gives back memory that only the start of vmm needed: what a large heap no
// longer uses, and the pages of the program itself, of which the initializers of
// packages touch most and a running machine few. Those come back from the page
// cache as they are needed.
func (t *trimming) trim() error {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	if metrics.Read(heap); heap[0].Value.Uint64()+heap[1].Value.Uint64() > smallHeap {
		debug.FreeOSMemory()
	}
	for lines := bufio.NewScanner(io.NewSectionReader(t.maps, 0, math.MaxInt64)); lines.Scan(); {
		var start, end uintptr
		var access string
		// 00400000-005e4000 r-xp 00000000 08:01 17 /bin/vmm (proc(5))
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &start, &end, &access); err != nil {
			return fmt.Errorf("/proc/self/maps: %w", err)
		}
		// What is writable may have been written, and would be lost.
		if strings.Contains(access, "w") || !strings.HasSuffix(lines.Text(), " "+t.program) {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return nil
}
