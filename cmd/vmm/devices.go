package main

import (
	"vmm/devices/virtio/blk"
	"vmm/disk"
	"vmm/machine"
)

// parseDisk reads the value of --disk.
func parseDisk(v string) (machine.Disk, error) {
	var d machine.Disk
	const writeback, none = "writeback", "none"
	cache := writeback
	err := parseOptions(v,
		text("path", &d.Path).must(),
		flag("ro", &d.ReadOnly),
		choice("format", &d.Format, disk.FormatRaw, disk.FormatQcow2),
		text("serial", &d.Serial),
		choice("cache", &cache, writeback, none),
		number("iops", &d.IOPS, 1, 1<<30),
		size("bw", &d.Bandwidth),
		number("queues", &d.Queues, 1, blk.MaxQueues),
	)
	d.Direct = cache == none
	return d, err
}
