# echo.S: a kernel that echoes what is typed on the serial port. It is an ELF
# file with a PVH entry, in 32-bit protected mode without paging.
	.section .note.pvh, "a", @note
	.align 4
	.long 4
	.long 4
	.long 18
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
_start:
	mov $0x3fd, %edx
1:	in %dx, %al		# line status: is there a byte?
	test $1, %al
	jz 1b
	mov $0x3f8, %edx
	in %dx, %al
	out %al, %dx
	jmp _start
