// Package tools finds vmm-tools, the program beside vmm that has what a machine
// can start without.
package tools

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The names of the program, and of the first process of guests that run images.
const (
	Name = "vmm-tools"
	Init = "vmm-init"
)

// Path is where the program is: in the folder of the running program, or else
// in one of PATH.
func Path() (string, error) { return Beside(Name) }

// Beside is where another program of vmm's is: in the folder of the running program,
// or else in one of PATH.
func Beside(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), name)); err == nil {
				return path, nil
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside vmm nor in PATH; install both, they are built together", name)
	}
	return path, nil
}
