/*
 * Memory on demand. The program touches pages at WINDOW that are nowhere; its
 * page-fault handler finds a frame for each. Intel SDM vol. 3 §4.5 (paging),
 * §6.15 (the page-fault exception, vector 14).
 */
	.set	WINDOW, 0x8000000000	# 512 GiB: the second entry of the PML4
	.set	FRAMES, 0x200000	# free memory: one frame after the other
	.set	idt, 0x20000		# these in memory that is zero
	.set	pdpt, 0x21000
	.set	pd, 0x22000
	.set	pt, 0x23000

	.code64
	.globl _start
_start:
	mov	$page_fault, %rax
	mov	%ax, idt + 16 * 14
	movw	$8, idt + 16 * 14 + 2
	movw	$0x8e00, idt + 16 * 14 + 4
	lidt	idt_pointer

	/* Tables for the window, the last of them empty. */
	mov	%cr3, %rax
	movq	$(pdpt + 3), 8(%rax)
	movq	$(pd + 3), pdpt
	movq	$(pt + 3), pd

	movabs	$WINDOW, %rbx
	movl	$1, (%rbx)		# page 0: a fault
	movl	$2, 0x5008(%rbx)	# page 5: a fault
	movl	$3, 0x10(%rbx)		# page 0 again: none
	mov	0x9000(%rbx), %eax	# page 9, read only: a fault
	movl	$4, 0x5020(%rbx)	# page 5 again: none
	hlt

page_fault:				# the error code is on the stack
	push	%rax
	push	%rdx
	mov	16(%rsp), %eax
	out	%eax, $0x10		# the error code,
	mov	%cr2, %rdx		# the address,
	shr	$12, %edx		# as a page of the window
	mov	%edx, %eax
	out	%eax, $0x11
	mov	frame, %eax
	out	%eax, $0x12		# and the frame that the page gets
	or	$3, %eax		# present, writable
	mov	%rax, pt(, %rdx, 8)
	addl	$0x1000, frame
	pop	%rdx
	pop	%rax
	add	$8, %rsp		# the error code
	iretq				# and the instruction once more

	.balign 8
idt_pointer:
	.word	256 * 16 - 1
	.quad	idt
frame:	.quad	FRAMES
