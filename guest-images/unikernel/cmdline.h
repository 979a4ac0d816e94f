// cmdline.h: the words of the command line.
#ifndef CMDLINE_H
#define CMDLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// cmdline_init keeps a copy of the command line.
void cmdline_init(const char *text);

// cmdline_has reports whether a word is there.
bool cmdline_has(const char *word);

// cmdline_value returns what follows a name, which includes its "=", the first
// time after position *at, and moves *at behind it. NULL: not there any more.
// The value ends with a space or the line.
const char *cmdline_value(const char *name, size_t *at);

// parse_number reads a number, decimal or after 0x hexadecimal, and moves *p to
// what follows it. It returns false where there is none.
bool parse_number(const char **p, uint64_t *n);

#endif
