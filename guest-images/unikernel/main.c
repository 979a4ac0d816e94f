// main.c: the REST service as a system of its own.
//
// What it can be told is on the command line, as for Linux:
//
//	ip=CLIENT::GATEWAY:NETMASK  an address of its own (Documentation/admin-guide/
//	                            nfs/nfsroot.rst); ip=dhcp, or nothing: by DHCP
//	virtio_mmio.device=...      a virtio device on MMIO: virtio_mmio.c
//	quiet                       nothing on the console but errors
//
// and on the console: "poweroff".
#include <lwip/dhcp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/timeouts.h>
#include <string.h>

#include "clock.h"
#include "cmdline.h"
#include "console.h"
#include "http.h"
#include "interrupts.h"
#include "memory.h"
#include "net.h"
#include "power.h"
#include "pvh.h"
#include "serve.h"
#include "x86.h"

// Port 0x80 shows how far a machine has come.
enum {
	MARK_PORT = 0x80,
	MARK_MAIN = 0x41,  // as Cloud Hypervisor's guests do when the kernel is done
	MARK_READY = 0x42, // the service can be reached
};

// sys_now is lwIP's clock, in milliseconds.
u32_t sys_now(void) { return clock_ns() / 1000000; }

// parse_address reads an IPv4 address, and moves *p behind the colon that follows
// it, if one does. No address is 0.0.0.0.
static bool parse_address(const char **p, ip4_addr_t *addr) {
	uint8_t bytes[4] = {0};
	for (int i = 0; i < 4 && **p >= '0' && **p <= '9'; i++) {
		uint64_t n;
		if (!parse_number(p, &n) || n > 255 || (i < 3 && *(*p)++ != '.'))
			return false;
		bytes[i] = n;
	}
	IP4_ADDR(addr, bytes[0], bytes[1], bytes[2], bytes[3]);
	if (**p == ':')
		++*p;
	return true;
}

// configure gives the interface its address, or has DHCP find one.
static void configure(struct netif *n) {
	size_t at = 0;
	const char *word = cmdline_value("ip=", &at);
	netif_set_up(n);
	if (!word || strncmp(word, "dhcp", 4) == 0) {
		if (dhcp_start(n) != ERR_OK)
			panic("DHCP does not start", 0, 0);
		return;
	}
	ip4_addr_t address, server, gateway, mask;
	if (!parse_address(&word, &address) || !parse_address(&word, &server) || !parse_address(&word, &gateway) ||
	    !parse_address(&word, &mask) || ip4_addr_isany_val(address))
		panic("the command line's ip= is not CLIENT::GATEWAY:NETMASK or dhcp", 0, 0);
	if (ip4_addr_isany_val(mask))
		IP4_ADDR(&mask, 255, 255, 255, 0);
	netif_set_addr(n, &address, &mask, &gateway);
}

// on_status is called by lwIP when the interface has got an address, or lost it.
static void on_status(struct netif *n) {
	if (ip4_addr_isany_val(*netif_ip4_addr(n)))
		return;
	char address[16];
	out8(MARK_PORT, MARK_READY);
	print("rest: listening on ");
	print(ip4addr_ntoa_r(netif_ip4_addr(n), address, sizeof address));
	print(" port 8080\n");
}

// rest sleeps until there is something to do.
static void rest(void) {
	uint32_t ms = sys_timeouts_sleeptime();
	if (ms > 0 && net_sleep()) {
		if (ms != SYS_TIMEOUTS_SLEEPTIME_INFINITE)
			start_timer(ms * 1000000ull);
		wait_for_interrupt();
	}
	net_wake();
}

_Noreturn void main(const struct start_info *info) {
	static struct netif n;

	out8(MARK_PORT, MARK_MAIN);
	cmdline_init((const char *)info->cmdline);
	interrupts_init();
	console_init(cmdline_has("quiet"));
	if (info->magic != START_MAGIC || info->version < 1)
		panic("the monitor left no start info with a memory map", 0, 0);
	power_init(info->rsdp);
	memory_init(info);
	clock_init();

	lwip_init();
	net_init(&n);
	netif_set_default(&n);
	netif_set_status_callback(&n, on_status);
	serve_init();
	configure(&n);

	for (;;) {
		bool more = net_poll(&n);
		sys_check_timeouts();
		net_flush();
		const char *line = console_line();
		if (line && strcmp(line, "poweroff") == 0)
			power_off();
		if (!more && !line)
			rest();
	}
}
