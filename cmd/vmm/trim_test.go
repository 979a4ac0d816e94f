package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The program goes on after its pages are gone, and has fewer of them.
func TestTrim(t *testing.T) {
	own, err := newTrimming()
	if err != nil {
		t.Fatal(err)
	}
	defer own.maps.Close()
	before := residentFile(t)
	if err := own.trim(); err != nil {
		t.Fatal(err)
	}
	if after := residentFile(t); after >= before {
		t.Errorf("%d KiB of the program in memory before, %d after", before, after)
	} else {
		t.Logf("%d KiB of the program in memory before, %d after", before, after)
	}
}

// What is done at rest is done once before, not while the guest is busy, once at
// rest, and once more after it was busy again soon.
func TestAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var exits atomic.Uint64
		times := 0
		stop := atRest(exits.Load, func() { times++ })
		for range 5 {
			exits.Add(trimExits)
			time.Sleep(trimAfter)
			if synctest.Wait(); times != 1 {
				t.Fatalf("done %d times while the guest is busy; want once", times)
			}
		}
		exits.Add(trimExits - 1)
		time.Sleep(trimAfter)
		if synctest.Wait(); times != 2 {
			t.Errorf("done %d times; want twice", times)
		}
		exits.Add(trimExits)
		time.Sleep(10 * trimAfter)
		if synctest.Wait(); times != 3 {
			t.Errorf("done %d times; want three times", times)
		}
		stop()
		stop()
		atRest(exits.Load, func() { t.Error("done after the end") })()
	})
}

// residentFile is the memory that holds pages of files, in KiB.
func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssFile:")
	value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
