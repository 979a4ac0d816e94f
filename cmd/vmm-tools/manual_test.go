package main

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"vmm/cmd/internal/manual"
)

// As TestManual of vmm, for the commands of this program that people call as vmm's.
func TestManual(t *testing.T) {
	dir := cmp.Or(manual.Folder(), t.TempDir())
	for _, c := range []*cobra.Command{newBench(), newExplore(), newImage(), newKernel()} {
		(&cobra.Command{Use: "vmm"}).AddCommand(c)
		if err := manual.Pages(c, dir); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"vmm-image-build.1": "ssh-key", "vmm-bench.1": "vmm-bench-list", "vmm-explore.1": "web", "vmm-kernel-fetch.1": "tiny"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(strings.ReplaceAll(string(text), `\-`, "-"), want) {
			t.Errorf("%s: %v; want %q in it", name, err, want)
		}
	}
}
