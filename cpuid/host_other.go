//go:build !amd64

package cpuid

// Host is what CPUID says on this processor, which has none.
func Host([]Leaf) []Leaf { return nil }
