// A guest with a segment below 1 MiB, where vmm has its tables otherwise: it
// looks whether all of it is there, and whether the descriptor table is one.
#include "guest.h"

main:
	mov $1, %bl
	mov $low, %esi
	mov $(low_end - low) / 4, %ecx
1:	lodsl
	cmp $0x5aa55aa5, %eax
	jne failed
	loop 1b
	mov $3, %bl
	sgdt gdt_pointer
	mov gdt_pointer + 2, %eax
	mov %cs, %ecx
	cmpl $0xffff, (%eax, %ecx)
	jne failed
	exit PASSED
failed:
	mov %bl, %al
	out %al, $EXIT
	cli
	hlt

	.data
gdt_pointer:
	.skip 6
	.section .low, "aw", @progbits
	.long 0x1badb002, 0, -0x1badb002 // Multiboot looks for it early in the file
low:
	.fill 0x1eff0 / 4, 4, 0x5aa55aa5
low_end:
