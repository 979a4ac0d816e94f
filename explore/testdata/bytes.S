# bytes.S: a kernel that writes bytes which are not all UTF-8 to the serial port,
# waits for one, and switches the machine off. It is an ELF file with a PVH entry,
# in 32-bit protected mode without paging.
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
	mov $0x3f8, %edx
	mov $text, %esi
	mov $end - text, %ecx
	rep outsb
	mov $0x3fd, %edx
1:	in %dx, %al		# line status: is there a byte?
	test $1, %al
	jz 1b
	mov $0x600, %edx	# ACPI's sleep control register: S5, and go
	mov $0x34, %al
	out %al, %dx
	hlt
text:	.byte 'a', 0xff, 0xc3, 'b', 0xc3, 0xbc, 'c', '\n'
	.fill 20, 1, 0x80
	.ascii "\nready\n"
end:
