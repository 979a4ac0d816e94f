// A guest with a descriptor table of three entries, as TamaGo's, that reloads
// neither CS nor SS and takes the PIT's interrupts from the I/O APIC's input 2.
#include "guest.h"

main:
	lgdt gdt_pointer
	// What IRET does in 64-bit mode: it reloads both from what they are.
	mov %ss, %eax
	mov %eax, %ss
	push %cs
	push $1f
	lret
1:
	gate 0x32, tick
	gate 0x30, wrong
	lidt idt_pointer
	enable_lapic
	io_apic 0, 0x30
	io_apic 2, 0x32
	outb 0x34, 0x43         // channel 0, both bytes, mode 2
	outb 0x00, 0x40
	outb 0x10, 0x40         // 3.4 ms
	sti
1:	hlt
	cmpl $3, ticks
	jb 1b
	exit PASSED

tick:
	incl ticks
	return
wrong:
	exit 1

	.data
	.align 8
ticks:	.long 0
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word 3 * 8 - 1
	.long gdt
