package boot

import (
	"context"
	"fmt"
	"os"

	"vmm/boot/kallsyms"
	"vmm/memory"
)

// LinkBase is the virtual address that an x86-64 Linux kernel is linked to have at
// physical address 0. Documentation/arch/x86/x86_64/mm.rst, "kernel text mapping".
const LinkBase = 0xffff_ffff_8000_0000

// Symbols are the symbols of a kernel in a file: those of its symbol table, or else
// its own, for which it is loaded as a machine would, with nothing to run it.
func Symbols(ctx context.Context, path string) (*kallsyms.Table, error) {
	if table, err := SymbolTable(path); err == nil {
		return table, nil
	}
	img, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	if img.Format == BzImage {
		unpacked, err := img.Unpack()
		if err != nil {
			return nil, err
		}
		defer unpacked.Close()
		img = unpacked
	}
	const room = 1 << 30 // of which only what the kernel fills is touched
	ram, err := memory.New(memory.Layout(room), memory.Options{})
	if err != nil {
		return nil, err
	}
	defer ram.Close()
	loaded, err := img.Load(ram, Params{Protocol: Linux64, KASLR: KASLROff})
	if err != nil {
		return nil, err
	}
	entry, err := loaded.Enter("", 0)
	if err != nil {
		return nil, err
	}
	image, err := ram.Slice(entry.Kernel.Start, entry.Kernel.Size)
	if err != nil {
		return nil, err
	}
	table, err := kallsyms.Find(ctx, image, LinkBase+entry.Kernel.Start)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return table, nil
}

// SymbolTable are the symbols in an ELF file's symbol table, of a vmlinux that still
// has it.
func SymbolTable(path string) (*kallsyms.Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return kallsyms.FromELF(f, info.Size())
}
