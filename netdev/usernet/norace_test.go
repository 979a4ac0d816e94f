//go:build !race

package usernet

// raceEnabled: see race_test.go.
const raceEnabled = false
