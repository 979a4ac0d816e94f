// memory.c: malloc. Free blocks are in a list in the order of their addresses;
// the first one that is large enough is taken, and a block that is freed is
// joined with its neighbours: the classic of Knuth, The Art of Computer
// Programming, vol. 1, §2.5.
#include "memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "console.h"

// block is the header of a piece of memory. The piece that malloc returns follows,
// aligned to 16 bytes as the header is.
struct block {
	size_t size; // in bytes, of the header too
	struct block *next; // of a free one
};

enum { ALIGN = sizeof(struct block) };

static struct block *first;

static void add(char *start, char *end) {
	start += -(uintptr_t)start % ALIGN;
	size_t size = (end - start) / ALIGN * ALIGN;
	first = (struct block *)start;
	*first = (struct block){.size = size};
}

void memory_init(const struct start_info *info) {
	extern char image_start[], image_end[];
	const struct memory_map_entry *map = (const struct memory_map_entry *)info->memory_map;
	for (uint32_t i = 0; i < info->memory_map_entries; i++) {
		uint64_t start = map[i].addr, end = start + map[i].size;
		if (map[i].type != MEMORY_RAM || start > (uint64_t)image_start || end < (uint64_t)image_end)
			continue;
		if (end > 1 << 30)
			end = 1 << 30; // what start.S has mapped
		add(image_end, (char *)end);
		return;
	}
	panic("no memory around the image", 0, 0);
}

void *malloc(size_t n) {
	if (n > SIZE_MAX / 2)
		return NULL;
	size_t size = (n + sizeof(struct block) + ALIGN - 1) / ALIGN * ALIGN;
	for (struct block **at = &first; *at; at = &(*at)->next) {
		struct block *b = *at;
		if (b->size < size)
			continue;
		if (b->size - size < 2 * sizeof *b) {
			*at = b->next;
		} else {
			struct block *rest = (struct block *)((char *)b + size);
			*rest = (struct block){b->size - size, b->next};
			*at = rest;
			b->size = size;
		}
		return b + 1;
	}
	return NULL;
}

// join makes one of b and the block after it, if nothing lies between them.
static void join(struct block *b) {
	struct block *next = b->next;
	if (next && (char *)b + b->size == (char *)next) {
		b->size += next->size;
		b->next = next->next;
	}
}

void free(void *p) {
	if (!p)
		return;
	struct block *b = (struct block *)p - 1, *before = NULL;
	for (struct block *at = first; at && at < b; at = at->next)
		before = at;
	b->next = before ? before->next : first;
	if (before) {
		before->next = b;
		join(b);
		join(before);
	} else {
		first = b;
		join(b);
	}
}

void *calloc(size_t n, size_t size) {
	size_t total;
	if (__builtin_mul_overflow(n, size, &total))
		return NULL;
	void *p = malloc(total);
	return p ? memset(p, 0, total) : NULL;
}

void *realloc(void *p, size_t n) {
	if (!p)
		return malloc(n);
	size_t room = ((struct block *)p - 1)->size - sizeof(struct block);
	if (n <= room)
		return p;
	void *larger = malloc(n);
	if (larger) {
		memcpy(larger, p, room);
		free(p);
	}
	return larger;
}
