// virtio.h: a device, whatever the transport it is reached by, and its queues.
// "virtio" with a section is the specification, version 1.2.
#ifndef VIRTIO_H
#define VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VIRTIO_NET = 1 }; // §5

// Bits of the device status. §2.1.
enum {
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 64,
	STATUS_FAILED = 128,
};

enum { FEATURE_VERSION_1 = 32 }; // a bit. §6

enum { QUEUE_SIZE = 64 };

// queue is a split queue. §2.7.
struct queue {
	struct queue_descriptor { // §2.7.5
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} descriptors[QUEUE_SIZE] __attribute__((aligned(16)));
	struct { // §2.7.6
		uint16_t flags, idx, ring[QUEUE_SIZE];
	} available;
	struct { // §2.7.8
		uint16_t flags, idx;
		struct {
			uint32_t id, len;
		} ring[QUEUE_SIZE];
	} used __attribute__((aligned(4)));

	uint16_t index;         // of the queue
	uint16_t seen;          // of used.idx
	uint16_t told;          // available.idx as the device was last told
	volatile void *doorbell;
};

enum { DESCRIPTOR_WRITE = 2 }; // the device writes

// device is a device with the functions of its transport.
struct device {
	const struct transport {
		uint32_t (*features)(struct device *d, uint32_t word);
		void (*accept)(struct device *d, uint32_t word, uint32_t features);
		uint8_t (*status)(struct device *d);
		void (*set_status)(struct device *d, uint8_t status);
		// set_queue gives the device a queue. false: it has none of that size.
		bool (*set_queue)(struct device *d, struct queue *q);
		// acknowledge lets the next interrupt come.
		void (*acknowledge)(struct device *d);
	} *transport;
	volatile char *registers; // MMIO: all; PCI: the common configuration
	volatile char *config;    // of the device's type
	volatile char *doorbells; // PCI
	uint32_t doorbell_step;
};

// find_device finds a device of a type, and connects its interrupt to a vector.
bool virtio_find(uint32_t type, uint8_t vector, struct device *d);

// The same on one transport.
bool virtio_find_mmio(uint32_t type, uint8_t vector, struct device *d);
bool virtio_find_pci(uint32_t type, uint8_t vector, struct device *d);

// virtio_begin resets a device and agrees on features, of which those wanted are
// accepted if the device has them. It returns them all.
uint64_t virtio_begin(struct device *d, uint64_t wanted);

// virtio_start lets the device begin, after its queues are set.
void virtio_start(struct device *d);

// queue_init sets up a queue and gives it to the device.
void queue_init(struct device *d, struct queue *q, uint16_t index);

// queue_add makes a descriptor available to the device.
void queue_add(struct queue *q, uint16_t id);

// queue_notify tells the device of what was added, if it wants to know.
void queue_notify(struct queue *q);

// queue_take takes a descriptor that the device is done with, and the number of
// bytes that it wrote. false: there is none.
bool queue_take(struct queue *q, uint16_t *id, uint32_t *len);

// queue_interrupt says whether the device is to interrupt when it is done with a
// descriptor. It returns false if that is already so: then there may be no
// interrupt.
bool queue_interrupt(struct queue *q, bool on);

#endif
