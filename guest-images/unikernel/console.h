// console.h: the first serial port of a PC.
#ifndef CONSOLE_H
#define CONSOLE_H

#include <stdbool.h>

// console_init makes ready; quiet leaves out what print prints.
void console_init(bool quiet);

// print writes a text, panic_print also when the console is quiet.
void print(const char *text);
void print_error(const char *text);
void print_hex(unsigned long n);

// console_line returns a line that has been typed, or NULL.
const char *console_line(void);

// panic says what is wrong, where, and ends the machine.
_Noreturn void panic(const char *what, const char *file, int line);

#endif
