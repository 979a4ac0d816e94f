/*
 * A program that uses devices, in real mode: by ports, and by memory where there
 * is none.
 */
	.code16
	.globl _start
_start:
	in	$0x10, %al		# a byte from a port
	inc	%al
	out	%al, $0x10		# and one to it

	mov	$0x11, %dx
	mov	$text, %si
	mov	$5, %cx
	cld
	rep outsb			# five at once

	mov	$0xd000, %ax		# segment 0xd000: from address 0xd0000 on
	mov	%ax, %es
	movw	$0x1234, %es:0		# two bytes to memory
	mov	%es:4, %eax		# and four from it
	out	%eax, $0x10

	in	$0x99, %al		# a port that nobody answers
	out	%al, $0x10
	hlt

text:	.ascii	"hello"
