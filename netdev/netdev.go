// Package netdev is what stands behind a virtual network card on the host: a
// tap device of the host's network, or a network in this process that needs no
// rights.
//
// Either way it is a set of file descriptors, one for each queue. A read of one
// gives a frame for the guest, a write sends one of the guest's, and in front of
// each is a header: struct virtio_net_hdr_v1 of <linux/virtio_net.h>.
package netdev

// HeaderSize is the size of the header in front of a frame, in bytes. virtio
// §5.1.6.
const HeaderSize = 12

// MaxQueues is the largest number of queues of a port.
const MaxQueues = 16
