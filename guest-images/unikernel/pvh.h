// pvh.h: what the monitor leaves in memory for us. Xen,
// xen/include/public/arch-x86/hvm/start_info.h.
#ifndef PVH_H
#define PVH_H

#include <stdint.h>

enum { START_MAGIC = 0x336ec578, MEMORY_RAM = 1 };

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, cmdline, rsdp;
	uint64_t memory_map; // from version 1 on
	uint32_t memory_map_entries, reserved;
};

struct memory_map_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

#endif
