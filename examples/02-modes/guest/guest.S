/*
 * From real mode to long mode. At each stage the program writes its number to
 * port 0x80, where a PC's firmware shows how far it has come.
 * Intel SDM vol. 3 §10.9.1 (to protected mode) and §10.8.5 (to long mode).
 */
	.code16
	.globl _start
_start:
	mov	$1, %al			# real mode: 16-bit code, no protection
	out	%al, $0x80

	lgdt	gdt_pointer		# protected mode needs segment descriptors
	mov	%cr0, %eax
	or	$1, %al			# CR0.PE
	mov	%eax, %cr0
	ljmp	$0x08, $protected	# load CS: from here on, 32-bit code

	.code32
protected:
	mov	$0x10, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$2, %al			# protected mode: segments, no paging
	out	%al, $0x80

	/* Long mode needs paging: here, one 2 MiB page mapped to itself. */
	movl	$(pdpt + 3), pml4	# 3: present, writable
	movl	$(pd + 3), pdpt
	movl	$0x83, pd		# 0x80: a large page, at 0
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$0x20, %eax		# CR4.PAE
	mov	%eax, %cr4
	mov	$0xc0000080, %ecx	# IA32_EFER
	rdmsr
	or	$0x100, %eax		# EFER.LME: long mode, as soon as paging is on
	wrmsr
	mov	%cr0, %eax
	or	$0x80000000, %eax	# CR0.PG
	mov	%eax, %cr0
	mov	$3, %al			# compatibility mode: long mode, with 32-bit code
	out	%al, $0x80

	ljmp	$0x18, $long		# load CS: from here on, 64-bit code

	.code64
long:
	mov	$4, %al			# long mode
	out	%al, $0x80
	hlt

	.balign 8
gdt:
	.quad	0			# the null descriptor
	.quad	0x00cf9b000000ffff	# 0x08: 32-bit code
	.quad	0x00cf93000000ffff	# 0x10: data
	.quad	0x00af9b000000ffff	# 0x18: 64-bit code
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt

	/* Page tables, in memory that is zero. */
	.set	pml4, 0x10000
	.set	pdpt, 0x11000
	.set	pd, 0x12000
