// Package virtio is what all virtio devices have in common: the queues through
// which a driver in the guest and a device exchange buffers, and the transports
// by which the driver finds and sets up the device. The devices themselves are
// packages below.
//
// It follows the Virtual I/O Device (VIRTIO) specification, version 1.2, cited
// as "virtio §". There is no support for legacy devices (§1.3.1).
//
// A request's way through it: the driver puts a chain of descriptors into a
// queue's available ring and writes the queue's number to the transport. KVM
// turns that write into a signal on an eventfd, the queue's doorbell, on which
// the device's worker waits; no vCPU leaves the kernel for it. The worker takes
// the chain with [Queue.Pop], serves it straight from and to guest memory,
// gives it back with [Queue.Push], and calls [Queue.Notify], which interrupts
// the guest if the driver wants that.
package virtio
