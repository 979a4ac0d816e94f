//go:build cgo

package sandbox

import "errors"

// threads: a C library starts threads of its own accord, and Go does not reach them.
func threads() error {
	return errors.New("this vmm is built with cgo, whose threads cannot be caged; build it with CGO_ENABLED=0")
}
