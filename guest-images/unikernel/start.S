# start.S: from the first instruction to main.
#
# The image is an ELF file with a PVH note, by which vmm and QEMU know that they
# may enter it directly: at _start, in 32-bit protected mode without paging, with
# flat segments, interrupts off, and the address of the start info in EBX. Xen,
# docs/misc/pvh.pandoc, "x86/HVM direct boot ABI".

	.section .note.pvh, "a", @note
	.align 4
	.long 4			# length of the name
	.long 8			# length of the value
	.long 18		# XEN_ELFNOTE_PHYS32_ENTRY
	.asciz "Xen"
	.quad _start

	# Bits of the control registers. Intel SDM vol. 3 §2.5, §2.2.1.
	.set CR0_PE, 1 << 0
	.set CR0_NE, 1 << 5
	.set CR0_WP, 1 << 16
	.set CR0_PG, 1 << 31
	.set CR4_PAE, 1 << 5
	.set EFER, 0xc0000080
	.set EFER_LME, 1 << 8

	# Bits of page-table entries. Intel SDM vol. 3 §4.5.4.
	.set PRESENT, 1 << 0
	.set WRITABLE, 1 << 1
	.set UNCACHED, 1 << 4
	.set LARGE, 1 << 7	# 2 MiB

	.set CODE, 8		# selectors of the GDT below
	.set DATA, 16

	.text
	.code32
	.globl _start
_start:
	cld
	mov $stack_top, %esp
	mov %ebx, %ebp		# kept for main

	# The first GiB, where memory is, and the last one below 4 GiB, where
	# devices are, have the same addresses virtually as physically.
	movl $(pdpt + PRESENT + WRITABLE), pml4
	movl $(memory_pd + PRESENT + WRITABLE), pdpt
	movl $(devices_pd + PRESENT + WRITABLE), pdpt + 3 * 8
	mov $(PRESENT | WRITABLE | LARGE), %eax
	mov $memory_pd, %edi
	call fill
	mov $(0xc0000000 | PRESENT | WRITABLE | UNCACHED | LARGE), %eax
	mov $devices_pd, %edi
	call fill

	# Long mode, in the order of Intel SDM vol. 3 §9.8.5.
	mov $CR4_PAE, %eax
	mov %eax, %cr4
	mov $pml4, %eax
	mov %eax, %cr3
	mov $EFER, %ecx
	rdmsr
	or $EFER_LME, %eax
	wrmsr
	mov $(CR0_PE | CR0_NE | CR0_WP | CR0_PG), %eax
	mov %eax, %cr0
	lgdt gdt_pointer
	ljmp $CODE, $long_mode

# fill fills the page directory at EDI with entries from EAX on.
fill:
	mov $512, %ecx
1:	mov %eax, (%edi)	# the upper halves stay zero
	add $0x200000, %eax
	add $8, %edi
	dec %ecx
	jnz 1b
	ret

	.code64
long_mode:
	mov $DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov $stack_top, %esp	# clears the upper half
	mov %ebp, %edi
	xor %ebp, %ebp		# the end of the chain of frames
	call main
	ud2			# main does not return

	.section .rodata
	.align 8
gdt:
	.quad 0
	.quad 0x00af9b000000ffff	# code, 64 bits. Intel SDM vol. 3 §3.4.5
	.quad 0x00cf93000000ffff	# data
gdt_pointer:
	.word . - gdt - 1
	.quad gdt

	.bss
	.align 4096
pml4:	.skip 4096
pdpt:	.skip 4096
memory_pd:
	.skip 4096
devices_pd:
	.skip 4096
	.skip 16384
stack_top:
