// Package trace records what happens between a guest and vmm: each exit, each
// interrupt that a device raises, each request in a virtqueue.
//
// It has two halves. What records (a [Recorder]'s [Stream]) runs in the middle
// of a vCPU's loop or a device's work, and does nothing but copy a few words
// into a buffer of fixed size. What makes sense of them (disassembly, symbols,
// names of values, text) runs in a goroutine of its own. When that falls behind,
// records are dropped and counted; the guest is never held up.
package trace
