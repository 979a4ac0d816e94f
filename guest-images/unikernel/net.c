// net.c: the virtio network device. virtio §5.1.
//
// Each descriptor has a buffer of its own for good, and frames are copied: what
// lwIP holds on to then does not keep the card from receiving.
#include "net.h"

#include <lwip/etharp.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/priv/tcp_priv.h>
#include <string.h>

#include "console.h"
#include "interrupts.h"
#include "random.h"
#include "virtio.h"
#include "x86.h"

enum {
	RECEIVE_QUEUE = 0, // virtio §5.1.2
	SEND_QUEUE = 1,
	FEATURE_MAC = 5, // virtio §5.1.3: the device has an address
	HEADER = 12,     // virtio §5.1.6: all zero, for nothing of it was agreed on
	MTU = 1500,
	FRAME = 14 + MTU,
	BUFFER = 2048,
};

static struct device card;
static struct queue receiving, sending;
static char received[QUEUE_SIZE][BUFFER], sent[QUEUE_SIZE][BUFFER];
static uint16_t unused[QUEUE_SIZE], unused_count; // buffers for sending
static bool refused;                              // a frame, because there was none

// reclaim takes back the buffers of frames that have left.
static void reclaim(void) {
	uint16_t id;
	uint32_t len;
	while (queue_take(&sending, &id, &len) && unused_count < QUEUE_SIZE)
		unused[unused_count++] = id;
}

// send is called by lwIP with a frame in pieces.
static err_t send(struct netif *n, struct pbuf *p) {
	(void)n;
	if (p->tot_len > FRAME)
		return ERR_BUF;
	if (unused_count == 0)
		reclaim();
	if (unused_count == 0) {
		refused = true;
		return ERR_MEM;
	}
	uint16_t id = unused[--unused_count];
	pbuf_copy_partial(p, sent[id] + HEADER, p->tot_len, 0);
	sending.descriptors[id].len = HEADER + p->tot_len;
	queue_add(&sending, id);
	return ERR_OK;
}

// receive gives lwIP a frame. Without memory for it, it is lost.
static void receive(struct netif *n, const char *frame, uint32_t len) {
	struct pbuf *p = pbuf_alloc(PBUF_RAW, len, PBUF_POOL);
	if (!p)
		return;
	pbuf_take(p, frame, len);
	if (n->input(p, n) != ERR_OK)
		pbuf_free(p);
}

bool net_poll(struct netif *n) {
	uint16_t id;
	uint32_t len;
	for (int i = 0; i < QUEUE_SIZE; i++) { // then the timers have their turn
		if (!queue_take(&receiving, &id, &len))
			break;
		if (len > HEADER && len <= HEADER + FRAME)
			receive(n, received[id] + HEADER, len - HEADER);
		queue_add(&receiving, id);
	}
	queue_notify(&receiving);
	if (refused) {
		reclaim();
		refused = unused_count == 0;
		if (!refused)
			tcp_txnow(); // what could not be sent
	}
	return receiving.seen != read16(&receiving.used.idx);
}

void net_flush(void) { queue_notify(&sending); }

bool net_sleep(void) {
	card.transport->acknowledge(&card);
	return queue_interrupt(&receiving, true) && (!refused || queue_interrupt(&sending, true));
}

void net_wake(void) {
	queue_interrupt(&receiving, false);
	queue_interrupt(&sending, false);
}

// read_address reads the card's own, or makes one up: locally administered, of
// one card.
static void read_address(struct netif *n, uint64_t features) {
	n->hwaddr_len = ETH_HWADDR_LEN;
	for (int i = 0; i < ETH_HWADDR_LEN; i++)
		n->hwaddr[i] = features >> FEATURE_MAC & 1 ? read8(card.config + i) : random32();
	if (!(features >> FEATURE_MAC & 1))
		n->hwaddr[0] = 0x02;
}

// set_up is called by lwIP.
static err_t set_up(struct netif *n) {
	if (!virtio_find(VIRTIO_NET, NETWORK_VECTOR, &card))
		panic("no virtio network card; one on MMIO is found if the monitor describes it on the command line", 0, 0);
	uint64_t features = virtio_begin(&card, 1 << FEATURE_MAC);
	read_address(n, features);
	queue_init(&card, &receiving, RECEIVE_QUEUE);
	queue_init(&card, &sending, SEND_QUEUE);
	for (uint16_t i = 0; i < QUEUE_SIZE; i++) {
		receiving.descriptors[i] = (struct queue_descriptor){(uint64_t)received[i], BUFFER, DESCRIPTOR_WRITE, 0};
		queue_add(&receiving, i);
		sending.descriptors[i] = (struct queue_descriptor){(uint64_t)sent[i], 0, 0, 0};
		unused[unused_count++] = i;
	}
	virtio_start(&card);
	queue_notify(&receiving);

	n->name[0] = 'e';
	n->name[1] = 'n';
	n->mtu = MTU;
	n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
	n->output = etharp_output;
	n->linkoutput = send;
	return ERR_OK;
}

void net_init(struct netif *n) { netif_add_noaddr(n, NULL, set_up, netif_input); }
