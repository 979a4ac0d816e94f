#include "cmdline.h"

#include <string.h>

static char line[2048]; // as long as Linux's

void cmdline_init(const char *text) {
	for (size_t i = 0; text && text[i] && i < sizeof line - 1; i++)
		line[i] = text[i];
}

static bool ends_word(char c) { return c == 0 || c == ' '; }

const char *cmdline_value(const char *name, size_t *at) {
	size_t n = strlen(name);
	for (size_t i = *at; line[i]; i++) {
		if ((i == 0 || line[i - 1] == ' ') && strncmp(line + i, name, n) == 0) {
			*at = i + n;
			return line + i + n;
		}
	}
	return NULL;
}

bool cmdline_has(const char *word) {
	size_t at = 0;
	const char *rest;
	while ((rest = cmdline_value(word, &at))) {
		if (ends_word(*rest))
			return true;
	}
	return false;
}

static int digit(char c) {
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20; // to lower case
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

bool parse_number(const char **p, uint64_t *n) {
	int base = 10;
	if ((*p)[0] == '0' && ((*p)[1] | 0x20) == 'x') {
		base = 16;
		*p += 2;
	}
	const char *begin = *p;
	for (*n = 0; digit(**p) < base; ++*p)
		*n = *n * base + digit(**p);
	return *p > begin;
}
