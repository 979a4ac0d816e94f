// cc.h: what lwIP asks of a compiler and a system. lwip/arch.h describes it.
#ifndef LWIP_ARCH_CC_H
#define LWIP_ARCH_CC_H

#include "console.h"
#include "random.h"

#define BYTE_ORDER LITTLE_ENDIAN

// Headers that a system without a C library has not.
#define LWIP_NO_INTTYPES_H 1
#define LWIP_NO_LIMITS_H 1
#define LWIP_NO_UNISTD_H 1
#define LWIP_NO_CTYPE_H 1
#define INT_MAX __INT_MAX__
#define SSIZE_MAX __INT_MAX__
typedef int ssize_t;
#define X8_F "x"
#define U16_F "u"
#define S16_F "d"
#define X16_F "x"
#define U32_F "u"
#define S32_F "d"
#define X32_F "x"
#define SZT_F "lu"

#define LWIP_PLATFORM_DIAG(message)
#define LWIP_PLATFORM_ASSERT(message) panic("lwIP's assertion failed", __FILE__, __LINE__)
#define LWIP_RAND() random32()

// There is one thread, and interrupts touch nothing of lwIP's.
#define SYS_ARCH_DECL_PROTECT(level)
#define SYS_ARCH_PROTECT(level)
#define SYS_ARCH_UNPROTECT(level)

#endif
