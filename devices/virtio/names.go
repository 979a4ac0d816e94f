package virtio

import (
	"fmt"
	"strings"

	"vmm/devices"
)

var (
	_ devices.Namer = (*MMIO)(nil)
	_ devices.Namer = (*pciCommon)(nil)
	_ devices.Namer = (*pciNotify)(nil)
	_ devices.Namer = isr{}
	_ devices.Namer = deviceConfig{}
)

// mmioNames are the registers of the MMIO transport. virtio §4.2.2.
var mmioNames = map[uint64]string{
	mmioMagic: "MagicValue", mmioVersion: "Version", mmioDeviceID: "DeviceID", mmioVendorID: "VendorID",
	mmioFeatures: "DeviceFeatures", mmioFeaturesSelect: "DeviceFeaturesSel",
	mmioAccept: "DriverFeatures", mmioAcceptSelect: "DriverFeaturesSel",
	mmioQueueSelect: "QueueSel", mmioQueueSizeMax: "QueueSizeMax", mmioQueueSize: "QueueSize",
	mmioQueueReady: "QueueReady", mmioQueueNotify: "QueueNotify",
	mmioInterruptStatus: "InterruptStatus", mmioInterruptAck: "InterruptACK", mmioStatus: "Status",
	mmioQueueDesc: "QueueDescLow", mmioQueueDesc + 4: "QueueDescHigh",
	mmioQueueDriver: "QueueDriverLow", mmioQueueDriver + 4: "QueueDriverHigh",
	mmioQueueDevice: "QueueDeviceLow", mmioQueueDevice + 4: "QueueDeviceHigh",
	mmioSHMSelect: "SHMSel", 0x0b0: "SHMLenLow", 0x0b4: "SHMLenHigh", 0x0b8: "SHMBaseLow", 0x0bc: "SHMBaseHigh",
	0x0c0: "QueueReset", mmioGeneration: "ConfigGeneration",
}

// pciNames are the fields of struct virtio_pci_common_cfg. virtio §4.1.4.3.
var pciNames = map[uint64]string{
	pciFeaturesSelect: "device_feature_select", pciFeatures: "device_feature",
	pciAcceptSelect: "driver_feature_select", pciAccept: "driver_feature",
	pciConfigVector: "config_msix_vector", pciQueues: "num_queues", pciStatus: "device_status",
	pciGeneration: "config_generation", pciQueueSelect: "queue_select", pciQueueSize: "queue_size",
	pciQueueVector: "queue_msix_vector", pciQueueEnable: "queue_enable", pciQueueNotifyOff: "queue_notify_off",
	pciQueueDesc: "queue_desc", pciQueueDesc + 4: "queue_desc high",
	pciQueueDriver: "queue_driver", pciQueueDriver + 4: "queue_driver high",
	pciQueueDevice: "queue_device", pciQueueDevice + 4: "queue_device high",
}

// statusNames says which steps a driver has taken. virtio §2.1.
func statusNames(v uint64) string {
	if v == 0 {
		return "reset"
	}
	return devices.Bits(v, "ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK", "", "", "DEVICE_NEEDS_RESET", "FAILED")
}

// configName is a place in the configuration space of the device's type.
func configName(offset uint64) string { return fmt.Sprintf("config+%#x", offset) }

// Register implements devices.Namer.
func (m *MMIO) Register(offset uint64, _ bool) string {
	if offset >= mmioConfig {
		return configName(offset - mmioConfig)
	}
	return mmioNames[offset]
}

// Meaning implements devices.Namer.
func (m *MMIO) Meaning(register string, _ bool, v uint64) string {
	switch register {
	case "MagicValue":
		return "\"virt\""
	case "DeviceID":
		return Type(v).String()
	case "QueueNotify":
		return fmt.Sprintf("queue %d", v)
	case "InterruptStatus", "InterruptACK":
		return devices.Bits(v, "used-buffer", "config-change")
	case "Status":
		return statusNames(v)
	}
	return ""
}

// Register implements devices.Namer.
func (c *pciCommon) Register(offset uint64, _ bool) string { return pciNames[offset] }

// Meaning implements devices.Namer.
func (c *pciCommon) Meaning(register string, _ bool, v uint64) string {
	switch {
	case register == "device_status":
		return statusNames(v & 0xff)
	case strings.HasSuffix(register, "msix_vector") && v&0xffff == noVector:
		return "none"
	}
	return ""
}

// Register implements devices.Namer.
func (n *pciNotify) Register(offset uint64, _ bool) string {
	return fmt.Sprintf("QueueNotify %d", offset/notifyStep)
}

// Meaning implements devices.Namer.
func (n *pciNotify) Meaning(string, bool, uint64) string { return "" }

// Register implements devices.Namer.
func (isr) Register(uint64, bool) string { return "ISR" }

// Meaning implements devices.Namer.
func (isr) Meaning(string, bool, uint64) string { return "" }

// Register implements devices.Namer.
func (c deviceConfig) Register(offset uint64, _ bool) string { return configName(offset) }

// Meaning implements devices.Namer.
func (c deviceConfig) Meaning(string, bool, uint64) string { return "" }
