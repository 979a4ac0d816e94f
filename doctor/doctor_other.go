//go:build !amd64

package doctor

import (
	"errors"
	"runtime"
)

// Run says that this architecture is not supported.
func Run() *Report {
	return &Report{
		Host:    host(),
		Problem: "vmm does not run guests on " + runtime.GOARCH + " yet",
		Fix:     "use an x86-64 host",
	}
}

// Interpreted has nothing to say of this architecture.
func Interpreted() string { return "" }

// Prober measures nothing.
type Prober struct{}

// NewProber returns one.
func NewProber() *Prober { return &Prober{} }

// Close does nothing.
func (*Prober) Close() {}

// Interpreted has nothing to say of this architecture.
func (*Prober) Interpreted() string { return "" }

// DebugProbes says that this architecture is not supported.
func DebugProbes() (Probes, error) {
	return Probes{}, errors.New("vmm does not run guests on " + runtime.GOARCH + " yet; use an x86-64 host")
}
