// A kernel as Linux is to vmm's probes, whose symbols have the names that TABLES, a
// file, gives them: it runs at the addresses of a kernel, makes one initcall, and
// then spins in a function of its own.
#include "guest.h"

#define KERNEL 0xffffffff80000000
#define TOP 0x3f0000 // page tables: 2 pages of 2 MiB, for the kernel and for themselves
#define POINTERS 0x3f1000
#define DIRECTORY 0x3f2000

_start:	movl $0x2f0000, %esp
	putc 'A'
	movl $(POINTERS | 3), TOP
	movl $(POINTERS | 3), TOP + 8 * 511
	movl $(DIRECTORY | 3), POINTERS
	movl $(DIRECTORY | 3), POINTERS + 8 * 510
	movl $0x83, DIRECTORY
	movl $0x200083, DIRECTORY + 8
	movl $0x20, %eax // PAE
	movl %eax, %cr4
	movl $TOP, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx // EFER: LME
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax // PG, PE
	movl %eax, %cr0
	lgdt gdtr
	ljmp $8, $1f

	.code64
1:	movabsq $(KERNEL + start_kernel), %rax
	jmp *%rax

// Each has room for a probe where it begins.
	.globl start_kernel, do_one_initcall, an_initcall, free_initmem, run_init_process, a_function
start_kernel:
	nop
	nop
	movabsq $(KERNEL + an_initcall), %rdi
	call do_one_initcall
	nop
	nop
	call free_initmem
	call run_init_process
	jmp a_function
do_one_initcall:
	nop
	nop
	call *%rdi
	nop
	nop
	ret
an_initcall:
	nop
	nop
	ret
free_initmem:
	nop
	nop
	ret
run_init_process:
	nop
	nop
	ret
a_function:
	movl $20000, %ecx
1:	decl %ecx
	jnz 1b
	putc '.'
	jmp a_function

	.data
	.align 8
gdt:	.quad 0, 0x00af9a000000ffff // 64-bit code
gdtr:	.word . - gdt - 1
	.long gdt
	.align 4096
	.incbin TABLES
