// Package gdb is a server of gdb's remote serial protocol, by which gdb debugs
// what runs elsewhere: here, the processors of a virtual machine.
//
// "GDB" is the GDB manual, "Debugging with GDB", appendix "GDB Remote Serial
// Protocol" (gdb 13).
package gdb
