// stdlib.h: what of it the C application and lwIP use; memory.c.
#ifndef STDLIB_H
#define STDLIB_H

#include <stddef.h>

void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void free(void *p);
int atoi(const char *s); // only for a function that is not linked

#endif
