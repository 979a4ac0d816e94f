//go:build race

package usernet

// raceEnabled tells that the race detector is on, whose own memory is several times a
// process's.
const raceEnabled = true
