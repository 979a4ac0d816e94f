/*
 * Two processors. The first, in long mode, starts the second with an INIT and a
 * start-up interrupt; both then add to the same counter. Intel SDM vol. 3 §9.4.
 */
	.set	LAPIC, 0xfee00000
	.set	AP_PAGE, 0x8		# the second begins at 0x8000, in real mode
	.set	counter, 0x600
	.set	finished, 0x604
	.set	ROUNDS, 5000

	.code64
	.globl _start
_start:
	mov	$ap_start, %esi		# its program goes to where it begins
	mov	$(AP_PAGE << 12), %edi
	mov	$(ap_end - ap_start), %ecx
	cld
	rep movsb

	mov	$LAPIC, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$(1 << 24), 0x310(%rbx)	# to the processor with APIC ID 1:
	movl	$0x4500, 0x300(%rbx)	# INIT
	movl	$(1 << 24), 0x310(%rbx)
	movl	$(0x4600 | AP_PAGE), 0x300(%rbx)	# start at page AP_PAGE

	mov	$ROUNDS, %ecx
1:	lock incl counter
	loop	1b
2:	pause				# until the second has finished too
	cmpl	$0, finished
	je	2b
	mov	counter, %eax
	out	%eax, $0x10
	hlt

	.code16
ap_start:
	mov	$'2', %al		# says which processor it is
	out	%al, $0x11
	xor	%ax, %ax
	mov	%ax, %ds
	mov	$ROUNDS, %ecx
1:	lock incl counter
	addr32 loop 1b
	movl	$1, finished
2:	hlt
	jmp	2b
ap_end:
