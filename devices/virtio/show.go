package virtio

import "vmm/devices"

var (
	_ devices.Shower = (*MMIO)(nil)
	_ devices.Shower = (*pciCommon)(nil)
)

// Show implements devices.Shower, for the registers that hold something.
func (m *MMIO) Show() []devices.Value {
	var all []devices.Value
	for _, offset := range []uint64{
		mmioMagic, mmioVersion, mmioDeviceID, mmioVendorID, mmioFeatures, mmioQueueSizeMax, mmioQueueReady,
		mmioInterruptStatus, mmioStatus, mmioGeneration,
	} {
		all = append(all, devices.Value{Register: mmioNames[offset], Offset: offset, Bytes: 4, Value: uint64(m.read(offset))})
	}
	return all
}

// Show implements devices.Shower.
func (c *pciCommon) Show() []devices.Value {
	var all []devices.Value
	for _, r := range []struct {
		offset uint64
		bytes  int
	}{
		{pciFeaturesSelect, 4}, {pciFeatures, 4}, {pciAcceptSelect, 4}, {pciAccept, 4},
		{pciConfigVector, 2}, {pciQueues, 2}, {pciStatus, 1}, {pciGeneration, 1},
		{pciQueueSelect, 2}, {pciQueueSize, 2}, {pciQueueVector, 2}, {pciQueueEnable, 2},
		{pciQueueDesc, 8}, {pciQueueDriver, 8}, {pciQueueDevice, 8},
	} {
		var data [8]byte
		c.Read(r.offset, data[:r.bytes])
		all = append(all, devices.Value{Register: pciNames[r.offset], Offset: r.offset, Bytes: r.bytes, Value: le.Uint64(data[:])})
	}
	return all
}
