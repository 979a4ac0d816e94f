// console.c: a 16550A (TI PC16550D data sheet, §8), each byte of which costs a
// monitor an exit. It is written to without interrupts, and read with them.
#include "console.h"

#include <stddef.h>

#include "interrupts.h"
#include "power.h"
#include "x86.h"

enum {
	COM1 = 0x3f8,
	DATA = COM1,
	INTERRUPT_ENABLE = COM1 + 1,
	FIFO_CONTROL = COM1 + 2,
	LINE_CONTROL = COM1 + 3,
	MODEM_CONTROL = COM1 + 4,
	LINE_STATUS = COM1 + 5,

	ON_RECEIVED = 1,  // of INTERRUPT_ENABLE
	FIFO_ON = 1,      // of FIFO_CONTROL
	BITS8 = 3,        // of LINE_CONTROL
	READY = 0xb,      // of MODEM_CONTROL: DTR, RTS, and OUT2, which lets interrupts through
	RECEIVED = 1,     // of LINE_STATUS
	SENT = 1 << 5,    // of LINE_STATUS
	PATIENCE = 1 << 16, // looks at LINE_STATUS, for where there is no port

	IRQ = 4,
};

volatile bool console_interrupted; // set by console_vector
static bool quiet;

void console_init(bool q) {
	quiet = q;
	out8(LINE_CONTROL, BITS8);
	out8(FIFO_CONTROL, FIFO_ON);
	out8(MODEM_CONTROL, READY);
	out8(INTERRUPT_ENABLE, ON_RECEIVED);
	connect_interrupt(IRQ, CONSOLE_VECTOR);
}

static void put(char c) {
	for (int i = 0; !(in8(LINE_STATUS) & SENT) && i < PATIENCE; i++)
		;
	out8(DATA, c);
}

void print_error(const char *text) {
	for (; *text; text++) {
		if (*text == '\n')
			put('\r');
		put(*text);
	}
}

void print(const char *text) {
	if (!quiet)
		print_error(text);
}

void print_hex(unsigned long n) {
	char text[19] = "0x";
	for (int i = 0; i < 16; i++)
		text[2 + i] = "0123456789abcdef"[n >> (60 - 4 * i) & 15];
	print_error(text);
}

const char *console_line(void) {
	static char line[16];
	static size_t n;
	if (!console_interrupted)
		return NULL;
	// Before the bytes are read: what comes later interrupts again.
	console_interrupted = false;
	while (in8(LINE_STATUS) & RECEIVED) {
		char c = in8(DATA);
		if (c == '\r' || c == '\n') {
			line[n] = 0;
			n = 0;
			console_interrupted = true; // there may be more
			return line;
		}
		if (n < sizeof line - 1)
			line[n++] = c;
	}
	return NULL;
}

_Noreturn void panic(const char *what, const char *file, int line) {
	print_error("panic: ");
	print_error(what);
	if (file) {
		print_error(" at ");
		print_error(file);
		print_error(" line ");
		print_hex(line);
	}
	print_error("\n");
	crash();
}
