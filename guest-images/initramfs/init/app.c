// The init of an application's image: it mounts what programs expect, runs /app
// with the words behind "--" of the kernel's command line, and switches the
// machine off when that has ended. The network is the kernel's to set up: ip=dhcp,
// or an address (Documentation/admin-guide/nfs/nfsroot.rst).
#include "guest.h"
#include <asm/ioctls.h>
#include <linux/if.h>
#include <linux/mount.h>
#include <linux/sockios.h>

static void say(const char *text) {
	long n = 0;
	while (text[n])
		n++;
	SYS(write, 2, text, n);
}

static void say_number(int n) {
	char digits[12], *p = digits + sizeof digits - 1;
	*p = 0;
	do
		*--p = '0' + n % 10;
	while (n /= 10);
	say(p);
}

// loopback brings the interface lo up, as the kernel does only with ip=.
static void loopback(void) {
	struct ifreq request = {.ifr_name = "lo"};
	long s = SYS(socket, AF_INET, SOCK_DGRAM);
	if (s < 0 || SYS(ioctl, s, SIOCGIFFLAGS, &request) < 0)
		return; // a kernel without a network
	request.ifr_flags |= IFF_UP;
	SYS(ioctl, s, SIOCSIFFLAGS, &request);
	SYS(close, s);
}

static void application(char **argv, char **envp) {
	int error;
	argv[0] = "/app";
	SYS(setsid);
	SYS(ioctl, 0, TIOCSCTTY, 1); // Ctrl-C is for it
	error = -SYS(execve, argv[0], argv, envp);
	say("init: /app does not run: error ");
	say_number(error);
	say("\n");
	SYS(exit, 127);
}

void run(long *stack) {
	char **argv = (char **)(stack + 1), **envp = argv + *stack + 1;
	long child, pid;
	int status = 0, signal;

	out(MARK_PORT, MARK_INIT);
	SYS(mount, "proc", "/proc", "proc", MS_NOSUID);
	SYS(mount, "sysfs", "/sys", "sysfs", MS_NOSUID);
	SYS(mount, "devtmpfs", "/dev", "devtmpfs", MS_NOSUID);
	loopback();

	child = SYS(fork);
	if (child == 0)
		application(argv, envp);
	// Orphans end here too.
	while ((pid = SYS(wait4, -1, &status)) != child && pid > 0)
		;
	signal = status & 0x7f;
	if (status != 0) {
		say(signal ? "init: /app was ended by signal " : "init: /app ended with status ");
		say_number(signal ? signal : status >> 8 & 0xff);
		say("\n");
	}
	SYS(sync);
	end(0);
}
