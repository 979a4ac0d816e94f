# vectors.S: where interrupts and exceptions arrive. Intel SDM vol. 3 §6.12, §6.14.
#
# Interrupts only ever wake the processor from HLT: the main loop finds out what
# there is to do. So their handlers touch nothing but what says that they came.

	.set EOI, 0xfee000b0	# of the local APIC. Intel SDM vol. 3 §11.8.5

	.text
	.globl timer_vector, network_vector, console_vector, spurious_vector
console_vector:
	movb $1, console_interrupted
timer_vector:
network_vector:
	push %rax
	mov $EOI, %eax		# clears the upper half
	movl $0, (%rax)
	pop %rax
spurious_vector:		# which is not acknowledged. §11.9
	iretq

# An exception is an error of ours. Each entry pushes its number, and a zero where
# the processor has no error code to push; they are 16 bytes apart.
	.globl exception_vectors
	.align 16
exception_vectors:
	.set number, 0
	.rept 32
	.align 16
	.if (0x60227d00 >> number) & 1	# 8, 10-14, 17, 21, 29, 30
	.else
	push $0
	.endif
	push $number
	jmp exception
	.set number, number + 1
	.endr

exception:
	cld
	mov %rsp, %rdi
	and $-16, %rsp
	call handle_exception	# does not return
