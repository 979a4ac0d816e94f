package boot

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
)

// WriteTo writes the information for a person to read.
func (k *KernelInfo) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("file", "%s", k.File)
	if k.Packed != "" {
		row("size", "%d bytes, unpacked", k.Size)
		row("format", "%s, compressed with %s", k.Format, k.Packed)
	} else {
		row("size", "%d bytes", k.Size)
		row("format", "%s", k.Format)
	}
	if k.Version != "" {
		row("kernel", "%s", printable(k.Version))
	}
	if k.Protocol != "" {
		row("boot protocol", "%s", k.Protocol)
	}
	if k.Program {
		row("vmm could boot it by", "%s, with --boot-protocol; it looks like a program for an operating system", joinEntries(k.Entries))
	} else {
		row("vmm boots it by", "%s", joinEntries(k.Entries))
	}
	switch p := k.Payload; {
	case p != nil:
		row("payload", "%v, %d bytes at %#x, %d unpacked", p.Compression, p.Size, p.Offset, p.Unpacked)
	case k.Header != nil && k.Problem == "":
		row("payload", "none: the kernel is not compressed")
	}
	if k.Relocations > 0 {
		row("relocations", "%d, for random addresses (KASLR)", k.Relocations)
	}
	if k.Problem != "" {
		row("payload", "not readable: %s", printable(k.Problem))
	}
	// A bytes.Buffer does not fail, and so Flush does not.
	_ = t.Flush()
	if k.Header != nil {
		fmt.Fprintf(&b, "\nsetup header\n")
		k.Header.writeFields(&b)
	}
	if k.ELF != nil {
		k.ELF.write(&b)
	}
	return b.WriteTo(w)
}

func joinEntries(entries []EntryPoint) string {
	var words []string
	for _, e := range entries {
		words = append(words, fmt.Sprintf("%s at %#x", e.Protocol, e.Address))
	}
	return strings.Join(words, ", ")
}

// writeFields lists every field with its offset in the file and its meaning.
func (h *SetupHeader) writeFields(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	v := reflect.ValueOf(h).Elem()
	offset := uintptr(headerOffset)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name := field.Tag.Get("json")
		size := field.Type.Size()
		fmt.Fprintf(t, "  %#x\t%s\t0x%0*x\t%s\n", offset, name, 2*size, v.Field(i).Uint(), h.meaning(name))
		offset += size
	}
	_ = t.Flush()
}

// meaning explains a field's value. Documentation/arch/x86/boot.rst, "Details
// of Header Fields".
func (h *SetupHeader) meaning(field string) string {
	switch field {
	case "setup_sects":
		return fmt.Sprintf("512-byte sectors of real-mode code; the protected-mode code begins at byte %#x", h.kernelOffset())
	case "root_flags":
		return "root file system is mounted read-only if not 0"
	case "syssize":
		return fmt.Sprintf("protected-mode code in 16 bytes: %d bytes", int64(h.SysSize)*16)
	case "ram_size":
		return "obsolete"
	case "vid_mode":
		return "video mode, for the loader to set"
	case "root_dev":
		return "default root device number"
	case "boot_flag":
		return "magic number 0xaa55"
	case "jump":
		return fmt.Sprintf("jump instruction; the header ends at %#x", 0x202+int(h.Jump>>8))
	case "header":
		return `magic number "HdrS"`
	case "version":
		return "boot protocol " + h.version()
	case "realmode_swtch":
		return "hook called before protected mode"
	case "start_sys_seg":
		return "obsolete"
	case "kernel_version":
		return fmt.Sprintf("the kernel's version string is at byte %#x", int(h.KernelVersion)+0x200)
	case "type_of_loader":
		return "which loader, for the loader to set"
	case "loadflags":
		return joinBits(uint16(h.LoadFlags), loadFlagNames)
	case "setup_move_size":
		return "for protocols before 2.02"
	case "code32_start":
		return "32-bit entry, for the loader to change if it loads elsewhere"
	case "ramdisk_image", "ramdisk_size":
		return "initrd, for the loader to set"
	case "bootsect_kludge":
		return "obsolete"
	case "heap_end_ptr":
		return "end of the real-mode heap, for the loader to set"
	case "ext_loader_ver", "ext_loader_type":
		return "extends type_of_loader"
	case "cmd_line_ptr":
		return "command line, for the loader to set"
	case "initrd_addr_max":
		return "highest address of an initrd's last byte"
	case "kernel_alignment":
		return "of the load address, in bytes"
	case "relocatable_kernel":
		if h.RelocatableKernel == 0 {
			return "no: it runs at one address only"
		}
		return "yes: it can be loaded at any aligned address"
	case "min_alignment":
		return fmt.Sprintf("the kernel needs an alignment of 2 to the power of %d", h.MinAlignment)
	case "xloadflags":
		return joinBits(h.XLoadFlags, xloadFlagNames)
	case "cmdline_size":
		return fmt.Sprintf("longest command line: %d characters", h.maxCmdline())
	case "hardware_subarch", "hardware_subarch_data":
		return "paravirtual environment; 0 is a PC"
	case "payload_offset":
		return "compressed kernel, from the protected-mode code on"
	case "payload_length":
		return fmt.Sprintf("%d bytes of it", h.PayloadLength)
	case "setup_data":
		return "list of more boot parameters, for the loader to set"
	case "pref_address":
		return "preferred load address"
	case "init_size":
		return fmt.Sprintf("memory needed from there on to start: %d MiB", mebibytes(uint64(h.InitSize)))
	case "handover_offset":
		return "EFI handover entry, from the protected-mode code on"
	case "kernel_info_offset":
		return "struct kernel_info, from the protected-mode code on"
	}
	return ""
}

// Names of the bits of two fields of the setup header.
// arch/x86/include/uapi/asm/bootparam.h.
var (
	loadFlagNames = [16]string{
		0: "LOADED_HIGH", 1: "KASLR", 5: "QUIET", 6: "KEEP_SEGMENTS", 7: "CAN_USE_HEAP",
	}
	xloadFlagNames = [16]string{
		0: "KERNEL_64", 1: "CAN_BE_LOADED_ABOVE_4G", 2: "EFI_HANDOVER_32", 3: "EFI_HANDOVER_64", 4: "EFI_KEXEC",
		5: "5LEVEL", 6: "5LEVEL_ENABLED", 7: "MEM_ENCRYPTION",
	}
)

// bitNames lists the names of the bits that are set.
func bitNames(v uint16, names [16]string) []string {
	var set []string
	for bit, name := range names {
		if v>>bit&1 == 0 {
			continue
		}
		if name == "" {
			name = fmt.Sprintf("bit %d", bit)
		}
		set = append(set, name)
	}
	return set
}

func joinBits(v uint16, names [16]string) string {
	return strings.Join(bitNames(v, names), " ")
}

func (e *ELFInfo) write(w io.Writer) {
	fmt.Fprintf(w, "\nELF%s %s %s, entry %#x\n", e.Class, e.Machine, e.Type, e.Entry)
	if len(e.Entries) > 0 {
		fmt.Fprintf(w, "  entries: %s\n", joinEntries(e.Entries))
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "  segment\tflags\tphysical\tvirtual\toffset\tin file\tin memory\n")
	for _, s := range e.Segments {
		fmt.Fprintf(t, "  %s\t%s\t%#x\t%#x\t%#x\t%d\t%d\n", s.Type, s.Flags, s.PAddr, s.VAddr, s.Offset, s.FileSize, s.MemSize)
	}
	_ = t.Flush()
	t = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for i, n := range e.Notes {
		if i == 0 {
			fmt.Fprintf(t, "  note\ttype\tname\tcontents\n")
		}
		contents := n.Desc
		switch {
		case n.Text != "":
			contents = fmt.Sprintf("%q", n.Text)
		case n.Value != nil:
			contents = fmt.Sprintf("%#x", *n.Value)
		}
		fmt.Fprintf(t, "  %s\t%d\t%s\t%s\n", printable(n.Owner), n.Type, n.Name, contents)
	}
	_ = t.Flush()
}

// printable quotes a name that could confuse a terminal.
func printable(name string) string {
	if quoted := fmt.Sprintf("%q", name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}
