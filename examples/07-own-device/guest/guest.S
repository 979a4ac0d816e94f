/*
 * A driver for the reverser: sends it a word, waits for its interrupt, and shows
 * the answer.
 */
	.set	LAPIC, 0xfee00000
	.set	IOAPIC, 0xfec00000
	.set	VECTOR, 0x41
	.set	PIN, 5
	.set	DATA, 0x300
	.set	CONTROL, 0x301
	.set	OUTPUT, 0x3f8
	.set	idt, 0x20000

	.code64
	.globl _start
_start:
	mov	$handler, %rax
	mov	%ax, idt + 16 * VECTOR
	movw	$8, idt + 16 * VECTOR + 2
	movw	$0x8e00, idt + 16 * VECTOR + 4
	lidt	idt_pointer
	mov	$0xff, %al
	out	%al, $0x21
	out	%al, $0xa1
	mov	$LAPIC, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	mov	$IOAPIC, %ecx
	movl	$(0x10 + 2 * PIN + 1), (%rcx)
	movl	$0, 0x10(%rcx)
	movl	$(0x10 + 2 * PIN), (%rcx)
	movl	$(0x8000 | VECTOR), 0x10(%rcx)	# level-triggered: as long as the line is up

	mov	$DATA, %dx
	mov	$word, %esi
	mov	$(word_end - word), %ecx
	cld
1:	lodsb
	out	%al, %dx
	loop	1b
	mov	$CONTROL, %dx
	out	%al, %dx		# turn it around
2:	cli
	cmpb	$0, answered
	jne	3f
	sti
	hlt
	jmp	2b
3:	out	%al, $0xf4
	hlt

handler:
	push	%rax
	push	%rcx
	push	%rdx
	mov	$CONTROL, %dx
	in	%dx, %al		# how many bytes; lowers the line
	movzbl	%al, %ecx
	jrcxz	2f
1:	mov	$DATA, %dx
	in	%dx, %al
	mov	$OUTPUT, %dx
	out	%al, %dx
	loop	1b
2:	movb	$1, answered
	movl	$0, 0xb0(%rbx)		# end of interrupt, with the line down
	pop	%rdx
	pop	%rcx
	pop	%rax
	iretq

	.balign 8
idt_pointer:
	.word	256 * 16 - 1
	.quad	idt
answered:
	.byte	0
word:	.ascii	"stressed"
word_end:
