// Package acpi builds the tables by which firmware describes a PC to its
// operating system: which processors, interrupt controllers and devices there
// are, and how to switch it off.
//
// The machine is hardware-reduced (ACPI 6.5 §4.1): it has no power-management
// timer, no system control interrupt and no fixed event registers. A kernel
// then skips all of their set-up, and with it the PIC and the PIT, and powers
// off with one write. It needs a clock of known frequency instead, and KVM
// offers kvmclock and the TSC deadline timer.
package acpi
