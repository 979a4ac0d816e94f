package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// The program goes on after its pages are gone, and has fewer of them.
func TestTrim(t *testing.T) {
	before := residentFile(t)
	if err := trim(); err != nil {
		t.Fatal(err)
	}
	if after := residentFile(t); after >= before {
		t.Errorf("%d KiB of the program in memory before, %d after", before, after)
	} else {
		t.Logf("%d KiB of the program in memory before, %d after", before, after)
	}
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
