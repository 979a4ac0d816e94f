# guest.S: a kernel that says a byte on the serial port, makes EXITS exits, and
# ends its machine. It is an ELF file with a PVH entry (Xen's x86 HVM direct
# boot ABI), which QEMU and vmm load alike, and the C program too.
#
# The entry is 32-bit protected mode without paging, with flat segments.
	.section .note.pvh, "a", @note
	.align 4
	.long 4			# length of the name
	.long 4			# length of the value
	.long 18		# XEN_ELFNOTE_PHYS32_ENTRY
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
_start:
	mov $0x3f8, %dx		# COM1
	mov $'!', %al
	out %al, %dx

	mov $EXITS, %ecx
	test %ecx, %ecx
	jz 2f
1:	out %al, $0x80		# the POST code of a PC: a port that does nothing
	dec %ecx
	jnz 1b
2:
	xor %eax, %eax
	out %al, $0xf4		# QEMU's isa-debug-exit: status (0<<1)|1
	hlt
