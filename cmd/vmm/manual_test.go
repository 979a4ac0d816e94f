package main

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmm/cmd/internal/manual"
)

// Each command has a manual page, with its flags, and shells can complete it. With
// VMM_MANUAL set, they are written there, for the release.
func TestManual(t *testing.T) {
	dir := cmp.Or(manual.Folder(), t.TempDir())
	root := newRoot()
	for _, c := range root.Commands() {
		if _, other := toolCommands[c.Name()]; other {
			root.RemoveCommand(c) // vmm-tools writes its page
		}
	}

	if err := manual.Pages(root, dir); err != nil {
		t.Fatal(err)
	}
	if err := manual.Completions(newRoot(), dir); err != nil {
		t.Fatal(err)
	}

	for name, want := range map[string]string{
		"vmm.1": "vmm-boot", "vmm-boot.1": "kernel", "vmm-trace-show.1": "trace-filter", "vmm.bash": "complete", "_vmm": "#compdef", "vmm.fish": "complete",
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(strings.ReplaceAll(string(text), `\-`, "-"), want) {
			t.Errorf("%s: %v; want %q in it:\n%.2000s", name, err, want, text)
		}
	}
}
