// memory.h: the memory beyond the image, for malloc of <stdlib.h>.
#ifndef MEMORY_H
#define MEMORY_H

#include "pvh.h"

// memory_init finds the RAM around the image. The start info is read: what of it
// is needed later has to be copied before the first malloc.
void memory_init(const struct start_info *info);

#endif
