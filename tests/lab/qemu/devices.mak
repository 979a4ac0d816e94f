# What QEMU for the lab has in it: a q35 machine with virtio disks and shares.
CONFIG_PCI_DEVICES=n
CONFIG_Q35=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_9P=y
