// Package tools finds vmm-tools, the program beside vmm that has what a machine
// can start without.
package tools

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Name is the name of the program.
const Name = "vmm-tools"

// Path is where the program is: in the folder of the running program, or else
// in one of PATH.
func Path() (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), Name)); err == nil {
				return path, nil
			}
		}
	}
	path, err := exec.LookPath(Name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside vmm nor in PATH; install both, they are built together", Name)
	}
	return path, nil
}
