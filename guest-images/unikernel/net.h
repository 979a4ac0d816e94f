// net.h: the network card, as lwIP's network interface.
#ifndef NET_H
#define NET_H

#include <stdbool.h>

struct netif;

// net_init finds the card and adds it to lwIP.
void net_init(struct netif *n);

// net_poll gives lwIP what has come. It returns true when there may be more.
bool net_poll(struct netif *n);

// net_flush tells the device of the frames that lwIP has sent.
void net_flush(void);

// net_sleep has the device interrupt when something comes. It returns false if
// something has come: then there is no sleeping.
bool net_sleep(void);

// net_wake ends that.
void net_wake(void);

#endif
