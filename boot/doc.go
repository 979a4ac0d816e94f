// Package boot loads a kernel: it finds out what kind of image a file is,
// writes kernel, initrd, command line and boot parameters into guest memory,
// and says in which state the boot processor begins.
//
// Every file is taken to be hostile: what is read from it is copied once,
// checked, and used from the copy.
package boot
