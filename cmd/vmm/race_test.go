//go:build race

package main

// raceEnabled tells that the race detector is on, which takes address space and
// memory of its own.
const raceEnabled = true
