// A guest that takes input from COM1 with all of the modem control register 0, as
// xv6 and NuttX leave it, and sends it back until a dot comes.
#include "guest.h"

main:
	gate 0x24, received
	lidt idt_pointer
	enable_lapic
	io_apic 4, 0x24
	outb 0, COM1 + 4        // MCR
	outb 1, COM1 + 1        // IER: received bytes
	outb 'R', COM1          // ready
	sti
1:	hlt
	jmp 1b

received:
	mov $COM1 + 5, %dx
	in %dx, %al
	test $1, %al
	jz 2f
	mov $COM1, %dx
	in %dx, %al
	out %al, %dx
	cmp $'.', %al
	jne received
	exit PASSED
2:	return
