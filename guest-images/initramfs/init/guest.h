// guest.h: what an init needs of the system, without a C library: system calls,
// ports, the end of the machine. Linux for x86-64.
#ifndef GUEST_H
#define GUEST_H

#include <asm/unistd.h>

// At the entry the stack holds argc, argv and envp, and is aligned to 16 bytes.
// System V ABI, AMD64 supplement, §3.4.1.
__asm__(".globl _start\n"
        "_start: mov %rsp, %rdi\n"
        "call run\n");

static long call(long number, long a, long b, long c, long d, long e) {
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long result;
	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
	                 : "rcx", "r11", "memory");
	return result;
}

// Arguments are numbers and addresses; those left out are zero.
#define SYS5(n, a, b, c, d, e, ...) call(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))
#define SYS(n, ...) SYS5(n, ##__VA_ARGS__, 0, 0, 0, 0, 0)

static void out(unsigned short port, unsigned char value) {
	if (SYS(ioperm, port, 1, 1) == 0)
		__asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

// Port 0x80 shows how far a machine has come; this is the value of Cloud
// Hypervisor's guests for the begin of user space.
enum { MARK_PORT = 0x80, MARK_INIT = 0x41 };

// end switches the machine off, or resets it where it cannot or is told to.
static void end(int reset) {
	enum { MAGIC1 = 0xfee1dead, MAGIC2 = 672274793, OFF = 0x4321fedc, RESTART = 0x1234567 };
	if (!reset)
		SYS(reboot, MAGIC1, MAGIC2, OFF);
	SYS(reboot, MAGIC1, MAGIC2, RESTART);
}

#endif
