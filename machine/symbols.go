package machine

// LinkBase is the virtual address that an x86-64 Linux kernel is linked to have at
// physical address 0. Documentation/arch/x86/x86_64/mm.rst, "kernel text mapping".
const LinkBase = 0xffff_ffff_8000_0000
