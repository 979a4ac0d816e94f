// Package kvm is a typed view of /dev/kvm, the kernel's interface to the
// processor's virtualization extensions.
//
// There are three kinds of object, each a file descriptor: the [System]
// (/dev/kvm itself), a [VM] (an address space and its interrupt controllers)
// and a [VCPU] (a processor, run by one thread). Each method is one ioctl, and
// an error names the ioctl and wraps the errno.
//
// The interface is described in the kernel's Documentation/virt/kvm/api.rst,
// cited here as "KVM api.rst" with its section number.
package kvm
