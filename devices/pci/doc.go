// Package pci is a PCI Express root complex with one bus: how a guest finds
// devices, learns what they are and puts them at addresses. "PCI" is the PCI
// Local Bus Specification 3.0, "PCIe" the PCI Express Base Specification 5.0.
package pci
