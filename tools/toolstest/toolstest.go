// Package toolstest builds vmm-tools for the tests of packages that start it.
package toolstest

import (
	"fmt"
	"os"
	"os/exec"
)

// Run builds vmm-tools, runs the tests with it in PATH, and returns their exit
// status.
func Run(tests func() int) int {
	dir, err := os.MkdirTemp("", "vmm-tools")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("go", "build", "-o", dir, "vmm/cmd/vmm-tools").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build vmm-tools: %v\n%s", err, out)
		return 1
	}
	os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return tests()
}
