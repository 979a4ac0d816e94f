// The init of the tiny image: it signals that it runs, and switches the machine
// off. Words behind "--" on the kernel's command line change that:
//
//	serial  signal with a byte on the first serial port too, straight to its
//	        register, for monitors that do not show port 0x80
//	reset   reset the machine instead
//	hold    wait for ever instead
#include "guest.h"

enum { COM1 = 0x3f8 };

static int same(const char *a, const char *b) {
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

void run(long *stack) {
	char **argv = (char **)(stack + 1);
	int reset = 0, hold = 0;
	out(MARK_PORT, MARK_INIT);
	for (int i = 1; i < *stack; i++) {
		if (same(argv[i], "serial"))
			out(COM1, '!');
		reset |= same(argv[i], "reset");
		hold |= same(argv[i], "hold");
	}
	while (hold)
		SYS(pause);
	end(reset);
}
