/*
 * Where the kernel is entered: by PVH, in 32-bit protected mode with flat
 * segments and paging off; EBX holds the address of the start_info. Xen,
 * docs/misc/pvh.pandoc. It goes on to long mode and to C.
 */
	.section .note.pvh, "a", @note
	.long	4, 4, 18		# sizes of name and description; PHYS32_ENTRY
	.asciz	"Xen"
	.long	start

	.text
	.code32
	.globl	start
start:
	cld
	mov	%ebx, %esi		# for main
	/* Page tables: the first 4 GiB, in pages of 2 MiB, mapped to themselves. */
	movl	$(pdpt + 3), pml4
	mov	$pdpt, %edi
	mov	$(directories + 3), %eax
	mov	$4, %ecx
1:	mov	%eax, (%edi)
	add	$8, %edi
	add	$4096, %eax
	loop	1b
	mov	$directories, %edi
	mov	$0x83, %eax		# present, writable, large
	mov	$(4 * 512), %ecx
2:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x200000, %eax
	loop	2b

	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$0x20, %eax		# PAE
	mov	%eax, %cr4
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax		# EFER.LME
	wrmsr
	mov	%cr0, %eax
	or	$0x80000000, %eax	# PG
	mov	%eax, %cr0
	lgdt	gdt_pointer
	ljmp	$8, $long_mode

	.code64
long_mode:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$stack_top, %rsp
	mov	%esi, %edi		# the first argument: start_info
	call	main
1:	hlt
	jmp	1b

/* Where the timer's interrupt leads: registers that C may use are saved. */
	.globl	timer_entry
timer_entry:
	push	%rax
	push	%rcx
	push	%rdx
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	cld
	call	timer
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%rcx
	pop	%rax
	iretq

	.balign	8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	# 8: 64-bit code
	.quad	0x00cf93000000ffff	# 16: data
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt

	.bss
	.balign	4096
pml4:	.skip	4096
pdpt:	.skip	4096
directories:
	.skip	4 * 4096
	.skip	8192
stack_top:
