// A guest that finds the MP table as xv6 does, by the BIOS data area, and reads it.
// It passes where the processor count is that of the command line's last character.
#include "guest.h"

main:
	// PVH: the command line is at offset 24 of the start information.
	mov 24(%ebx), %esi
1:	lodsb
	test %al, %al
	jnz 1b
	movzbl -2(%esi), %ebp
	sub $'0', %ebp

	mov $1, %bl
	cmpw $639, 0x413
	jne failed
	movzwl 0x40e, %edi
	shl $4, %edi
	mov $2, %bl
	mov $1024 / 16, %ecx
2:	cmpl $0x5f504d5f, (%edi) // "_MP_"
	je found
	add $16, %edi
	loop 2b
	jmp failed
found:
	mov $3, %bl
	mov %edi, %esi
	mov $16, %ecx
	call sum
	jnz failed
	mov 4(%edi), %edi
	mov $4, %bl
	cmpl $0x504d4350, (%edi) // "PCMP"
	jne failed
	mov %edi, %esi
	movzwl 4(%edi), %ecx
	call sum
	jnz failed
	mov $5, %bl
	cmpl $LAPIC, 36(%edi)
	jne failed
	movzwl 34(%edi), %ecx   // entries
	add $44, %edi
	xor %esi, %esi          // processors
	xor %edx, %edx          // bit 0: the timer is at input 2; bit 1: an I/O APIC
entry:
	cmpb $0, (%edi)
	jne 3f
	inc %esi
	add $20, %edi
	jmp next
3:	cmpb $2, (%edi)
	jne 4f
	or $2, %edx
4:	cmpb $3, (%edi)
	jne 5f
	cmpb $0, 5(%edi)        // interrupt 0 of the bus
	jne 5f
	cmpb $2, 7(%edi)
	jne 5f
	or $1, %edx
5:	add $8, %edi
next:
	loop entry
	mov $6, %bl
	cmp %ebp, %esi
	jne failed
	mov $7, %bl
	cmp $3, %edx
	jne failed
	exit PASSED
failed:
	mov %bl, %al
	out %al, $EXIT
	cli
	hlt

sum:	xor %eax, %eax          // of ECX bytes at ESI
6:	add (%esi), %al
	inc %esi
	loop 6b
	test %al, %al
	ret
