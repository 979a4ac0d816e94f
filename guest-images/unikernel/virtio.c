// virtio.c: what all transports and devices have in common.
#include "virtio.h"

#include "console.h"
#include "x86.h"

enum { NO_INTERRUPT = 1, NO_NOTIFY = 1 }; // flags of the rings. virtio §2.7.6, §2.7.8

bool virtio_find(uint32_t type, uint8_t vector, struct device *d) {
	return virtio_find_mmio(type, vector, d) || virtio_find_pci(type, vector, d);
}

// virtio §3.1.1.
uint64_t virtio_begin(struct device *d, uint64_t wanted) {
	const struct transport *t = d->transport;
	t->set_status(d, 0);
	while (t->status(d) != 0)
		;
	t->set_status(d, STATUS_ACKNOWLEDGE);
	t->set_status(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	uint64_t offered = t->features(d, 0) | (uint64_t)t->features(d, 1) << 32;
	uint64_t accepted = offered & (wanted | 1ull << FEATURE_VERSION_1);
	t->accept(d, 0, accepted);
	t->accept(d, 1, accepted >> 32);
	t->set_status(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
	if (!(t->status(d) & STATUS_FEATURES_OK)) {
		t->set_status(d, STATUS_FAILED);
		panic("the virtio device does not accept VERSION_1 alone", 0, 0);
	}
	return accepted;
}

void virtio_start(struct device *d) {
	d->transport->set_status(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

void queue_init(struct device *d, struct queue *q, uint16_t index) {
	q->index = index;
	q->available.flags = NO_INTERRUPT;
	if (!d->transport->set_queue(d, q))
		panic("the virtio device has no queue of 64", 0, 0);
}

void queue_add(struct queue *q, uint16_t id) {
	q->available.ring[q->available.idx % QUEUE_SIZE] = id;
	barrier(); // the entry before the index
	write16(&q->available.idx, q->available.idx + 1);
}

void queue_notify(struct queue *q) {
	if (q->told == q->available.idx)
		return;
	q->told = q->available.idx;
	fence(); // the index before the look at the flags. virtio §2.7.13.4.1
	if (!(read16(&q->used.flags) & NO_NOTIFY))
		write32(q->doorbell, q->index);
}

bool queue_take(struct queue *q, uint16_t *id, uint32_t *len) {
	if (q->seen == read16(&q->used.idx))
		return false;
	barrier(); // the index before the entry
	*id = q->used.ring[q->seen % QUEUE_SIZE].id % QUEUE_SIZE;
	*len = q->used.ring[q->seen % QUEUE_SIZE].len;
	q->seen++;
	return true;
}

bool queue_interrupt(struct queue *q, bool on) {
	write16(&q->available.flags, on ? 0 : NO_INTERRUPT);
	if (!on)
		return true;
	fence(); // the flags before the look at the index. virtio §2.7.10
	return q->seen == read16(&q->used.idx);
}
