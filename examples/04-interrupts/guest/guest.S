/*
 * Interrupts, in long mode: the local APIC's timer, and a device's line through
 * the I/O APIC. Intel SDM vol. 3 §6.14 (64-bit IDT), §11.5.4 (timer); Intel
 * 82093AA data sheet (I/O APIC).
 */
	.set	LAPIC, 0xfee00000
	.set	IOAPIC, 0xfec00000
	.set	TIMER_VECTOR, 0x40
	.set	DEVICE_VECTOR, 0x41
	.set	DEVICE_PIN, 5

	.code64
	.globl _start
_start:
	/* The interrupt descriptor table: where each vector leads. */
	mov	$timer, %rax
	mov	$(idt + 16 * TIMER_VECTOR), %rdi
	call	set_gate
	mov	$device, %rax
	mov	$(idt + 16 * DEVICE_VECTOR), %rdi
	call	set_gate
	lidt	idt_pointer

	/* The two 8259 of 1981 see the same lines. They are to keep quiet. */
	mov	$0xff, %al
	out	%al, $0x21
	out	%al, $0xa1

	/* The local APIC: on, and its timer counts down from 100000 for ever. */
	mov	$LAPIC, %ebx
	movl	$0x1ff, 0xf0(%rbx)	# spurious vector 0xff, and the enable bit
	movl	$0xb, 0x3e0(%rbx)	# count at the full rate
	movl	$(0x20000 | TIMER_VECTOR), 0x320(%rbx)	# periodic
	movl	$100000, 0x380(%rbx)

	/* The I/O APIC: what comes in at the device's pin is a vector for us. */
	mov	$IOAPIC, %ecx
	movl	$(0x10 + 2 * DEVICE_PIN + 1), (%rcx)
	movl	$0, 0x10(%rcx)		# to the processor with APIC ID 0
	movl	$(0x10 + 2 * DEVICE_PIN), (%rcx)
	movl	$DEVICE_VECTOR, 0x10(%rcx)	# edge-triggered, not masked

	sti
wait:
	hlt				# until an interrupt
	cmpl	$3, ticks
	jb	wait
	movl	$0, 0x380(%rbx)		# the timer is stopped
	mov	$'d', %al		# and we are ready for the device
	out	%al, $0x10
1:	cli				# so that it cannot come between
	cmpl	$0, served		# this look
	jne	done
	sti				# and this wait: an interrupt is taken
	hlt				# only behind the instruction after STI
	jmp	1b
done:
	mov	$'q', %al
	out	%al, $0x10
	hlt

timer:
	push	%rax
	cmpl	$3, ticks		# another may come before it is stopped
	jae	1f
	incl	ticks
	mov	$'t', %al
	out	%al, $0x10
1:	movl	$0, 0xb0(%rbx)		# end of interrupt
	pop	%rax
	iretq

device:
	push	%rax
	incl	served
	in	$0x11, %al		# what does the device want?
	out	%al, $0x10
	movl	$0, 0xb0(%rbx)
	pop	%rax
	iretq

/* Makes the gate at %rdi lead to %rax. Intel SDM vol. 3, figure 6-8. */
set_gate:
	mov	%ax, (%rdi)
	movw	$8, 2(%rdi)		# the code segment
	movw	$0x8e00, 4(%rdi)	# present, an interrupt gate
	shr	$16, %rax
	mov	%ax, 6(%rdi)
	shr	$16, %rax
	mov	%eax, 8(%rdi)
	ret

	.balign 8
idt_pointer:
	.word	256 * 16 - 1
	.quad	idt
ticks:	.long	0
served:	.long	0
	.set	idt, 0x20000		# in memory that is zero
