// Package examples checks that the examples do what the lessons say.
package examples

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The programs that are kept are those that their sources make.
func TestGuests(t *testing.T) {
	sources, err := filepath.Glob("*/guest")
	if err != nil || len(sources) < 7 {
		t.Fatalf("%v, %v; want the guests of seven examples", sources, err)
	}
	for _, dir := range sources {
		example := filepath.Dir(dir)
		made := filepath.Join(t.TempDir(), "guest.bin")
		cmd := exec.Command("./guest", example)
		cmd.Env = append(os.Environ(), "OUT="+made)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		want, err := os.ReadFile(made)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(example, "guest.bin"))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s/guest.bin is not what examples/guest makes (%v); run: examples/guest examples/%[1]s", example, err)
		}
	}
}

// experiments are a command of a lesson, and what it is said to print.
var experiments = regexp.MustCompile("(?s)```console\n\\$ (go run [^\n]*)\n(.*?)```")

// Each lesson's experiments end as it says. Those that boot Linux are part of the
// whole-system tests.
func TestLessons(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); errors.Is(err, fs.ErrNotExist) && os.Getenv("VMM_REQUIRE_KVM") == "" {
		t.Skip(err)
	}
	lessons, err := filepath.Glob("../docs/lessons/[0-9]*.md")
	if err != nil || len(lessons) != 10 {
		t.Fatalf("%d lessons, %v; want 10", len(lessons), err)
	}
	for _, lesson := range lessons {
		t.Run(filepath.Base(lesson), func(t *testing.T) {
			text, err := os.ReadFile(lesson)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range experiments.FindAllStringSubmatch(string(text), -1) {
				words := strings.Fields(m[1])
				cmd := exec.Command(words[0], words[1:]...)
				cmd.Dir = ".."
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v", m[1], err)
				}
				if diff := cmp.Diff(m[2], string(out)); diff != "" {
					t.Errorf("%s prints something else (-lesson +printed):\n%s", m[1], diff)
				}
			}
		})
	}
}
