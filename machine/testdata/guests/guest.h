// What the small guests have in common. Each is entered in 32-bit protected mode
// without paging, by PVH or Multiboot, and ends by a write to the debug-exit port:
// PASSED, or another value that says which step failed.

#define PASSED   0x10
#define EXIT     0xf4
#define COM1     0x3f8
#define IO_APIC  0xfec00000
#define LAPIC    0xfee00000

	.section .note.pvh, "a", @note
	.long 4, 4, 18          // name, description, XEN_ELFNOTE_PHYS32_ENTRY
	.asciz "Xen"
	.long start

	.section .head, "ax", @progbits
	.align 4
	.long 0x1badb002, 0, -0x1badb002 // Multiboot, for an ELF file
	.globl start
start:
	mov $stack, %esp
	jmp main

	.bss
	.align 16
	.skip 4096
stack:
	.text

	.macro exit value
	mov $\value, %al
	out %al, $EXIT
	cli
	hlt
	.endm

	.macro outb value, port
	mov $\value, %al
	mov $\port, %dx
	out %al, %dx
	.endm

	// gate makes an interrupt vector lead to a handler, with CS as it is.
	.macro gate vector, handler
	mov $\handler, %eax
	mov %ax, idt + 8 * \vector
	mov %cs, idt + 8 * \vector + 2
	movw $0x8e00, idt + 8 * \vector + 4
	shr $16, %eax
	mov %ax, idt + 8 * \vector + 6
	.endm

	// return ends an interrupt handler as IRET does, which not every KVM that
	// interprets a guest's kernel has: it reloads CS, and leaves the stack.
	.macro return
	movl $0, LAPIC + 0xb0   // end of interrupt
	sti
	lret $4
	.endm

	// io_apic sends an input of the I/O APIC to a vector of processor 0.
	.macro io_apic input, vector
	movl $0x11 + 2 * \input, IO_APIC
	movl $0, IO_APIC + 0x10
	movl $0x10 + 2 * \input, IO_APIC
	movl $\vector, IO_APIC + 0x10
	.endm

	.macro enable_lapic
	movl $0x1ff, LAPIC + 0xf0
	.endm

	.data
	.align 8
idt:
	.skip 256 * 8
idt_pointer:
	.word 256 * 8 - 1
	.long idt
	.text
