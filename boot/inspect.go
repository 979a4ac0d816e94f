package boot

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// KernelInfo is what there is to know of a kernel image.
type KernelInfo struct {
	File    string `json:"file"`
	Size    int64  `json:"size"`
	Format  string `json:"format"`
	Version string `json:"version,omitempty"` // of the kernel, as it names itself
	// Protocol is the version of the boot protocol, such as 2.15.
	Protocol  string       `json:"boot_protocol,omitempty"`
	Protocols []string     `json:"protocols"` // by which vmm can boot it
	Header    *SetupHeader `json:"header,omitempty"`
	Payload   *Payload     `json:"payload,omitempty"`
	// ELF is the image itself, or what the payload unpacks to.
	ELF *Executable `json:"elf,omitempty"`
	// Problem says why ELF is missing.
	Problem string `json:"problem,omitempty"`
}

// Inspect collects what there is to know of an image. It unpacks the payload
// of a bzImage.
func (img *Image) Inspect() *KernelInfo {
	info := &KernelInfo{File: img.Name, Size: img.size, Format: img.Format.String(), Header: img.Header, ELF: img.ELF}
	if img.Header == nil {
		if img.ELF.PVH != nil {
			info.Protocols = append(info.Protocols, PVH.String())
		}
		if img.ELF.Class == elf.ELFCLASS64 {
			info.Protocols = append(info.Protocols, Linux64.String())
		}
		return info
	}
	info.Protocol = img.Header.version()
	info.Version = img.kernelVersion()
	if img.Header.has64() {
		info.Protocols = append(info.Protocols, Linux64.String())
	}
	info.Protocols = append(info.Protocols, Linux32.String())
	var err error
	if info.ELF, err = img.inspectPayload(info); err != nil {
		info.Problem = err.Error()
	}
	return info
}

func (img *Image) inspectPayload(info *KernelInfo) (*Executable, error) {
	payload, err := img.Payload()
	if err != nil {
		return nil, err
	}
	info.Payload = &payload
	unpacked, err := img.Vmlinux()
	if err != nil {
		return nil, err
	}
	return parseELF(bytes.NewReader(unpacked), int64(len(unpacked)))
}

// kernelVersion is the string that the setup header points to.
func (img *Image) kernelVersion() string {
	off := int64(img.Header.KernelVersion)
	if off == 0 {
		return ""
	}
	buffer := make([]byte, 256)
	n, _ := img.r.ReadAt(buffer, off+0x200)
	text, _, _ := bytes.Cut(buffer[:n], []byte{0})
	return strings.ToValidUTF8(string(text), "?")
}

// WriteTo writes the information for a person to read.
func (k *KernelInfo) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("file", "%s", k.File)
	row("size", "%d bytes", k.Size)
	row("format", "%s", k.Format)
	if k.Version != "" {
		row("kernel", "%s", k.Version)
	}
	if k.Protocol != "" {
		row("boot protocol", "%s", k.Protocol)
	}
	row("vmm boots it by", "%s", strings.Join(k.Protocols, ", "))
	if k.Header != nil {
		k.Header.describe(row)
	}
	if p := k.Payload; p != nil {
		row("payload", "%v, %d bytes at %#x, %d unpacked", p.Compression, p.Size, p.Offset, p.Unpacked)
	}
	if k.Problem != "" {
		row("payload", "not readable: %s", k.Problem)
	}
	if k.ELF != nil {
		k.ELF.describe(row)
	}
	// A bytes.Buffer does not fail.
	_ = t.Flush()
	return b.WriteTo(w)
}

// describe writes the header's fields that a loader reads, with their meaning.
func (h *SetupHeader) describe(row func(name, format string, args ...any)) {
	row("setup header", "")
	row("  setup_sects", "%d (the protected-mode code begins at byte %#x)", h.SetupSects, h.kernelOffset())
	row("  syssize", "%#x (%d bytes of protected-mode code)", h.SysSize, int64(h.SysSize)*16)
	row("  loadflags", "%#02x (%s)", h.LoadFlags, flags(uint64(h.LoadFlags), map[int]string{
		0: "LOADED_HIGH", 1: "KASLR", 5: "QUIET", 6: "KEEP_SEGMENTS", 7: "CAN_USE_HEAP",
	}))
	row("  code32_start", "%#x (32-bit entry)", h.Code32Start)
	if h.has64() {
		row("  64-bit entry", "%#x (load address + %#x)", h.loadAddress()+entry64, entry64)
	}
	row("  initrd_addr_max", "%#x (highest byte of an initrd)", h.initrdMax())
	row("  kernel_alignment", "%#x (of the load address)", h.KernelAlignment)
	row("  relocatable_kernel", "%d", h.RelocatableKernel)
	row("  xloadflags", "%#04x (%s)", h.XLoadFlags, flags(uint64(h.XLoadFlags), map[int]string{
		0: "KERNEL_64", 1: "CAN_BE_LOADED_ABOVE_4G", 2: "EFI_HANDOVER_32", 3: "EFI_HANDOVER_64", 4: "EFI_KEXEC",
		5: "5LEVEL", 6: "5LEVEL_ENABLED", 7: "MEM_ENCRYPTION",
	}))
	row("  cmdline_size", "%d (characters of command line)", h.maxCmdline())
	row("  hardware_subarch", "%d", h.HardwareSubarch)
	row("  setup_data", "%#x", h.SetupData)
	row("  pref_address", "%#x (preferred load address)", h.PrefAddress)
	row("  init_size", "%#x (%d MiB of memory from there to start)", h.InitSize, h.InitSize>>20)
	row("  handover_offset", "%#x (EFI)", h.HandoverOffset)
	row("  kernel_info_offset", "%#x", h.KernelInfoOffset)
}

// flags lists the names of the bits that are set.
func flags(v uint64, names map[int]string) string {
	var set []string
	for bit := range 64 {
		if v>>bit&1 == 0 {
			continue
		}
		name, ok := names[bit]
		if !ok {
			name = fmt.Sprintf("bit %d", bit)
		}
		set = append(set, name)
	}
	if len(set) == 0 {
		return "none"
	}
	return strings.Join(set, " ")
}

func (exe *Executable) describe(row func(name, format string, args ...any)) {
	row("ELF", "%v %v", exe.Class, exe.Machine)
	row("  entry", "%#x", exe.Entry)
	if exe.PVH != nil {
		row("  PVH entry", "%#x", *exe.PVH)
	}
	for i, s := range exe.Segments {
		row(fmt.Sprintf("  segment %d", i), "%v at %#x (virtual %#x): %d bytes in the file, %d in memory, %v",
			s.Type, s.PAddr, s.VAddr, s.FileSize, s.MemSize, s.Flags)
	}
	for _, n := range exe.Notes {
		row("  note", "%s type %d: % x", n.Name, n.Type, n.Desc[:min(len(n.Desc), 32)])
	}
}

// WriteInitrd lists archives as ls -l does.
func WriteInitrd(w io.Writer, archives []Archive) error {
	var errs []error
	for _, a := range archives {
		_, err := fmt.Fprintf(w, "# cpio archive at byte %d, compression %v, %d files\n", a.Offset, a.Compression, len(a.Files))
		errs = append(errs, err)
		for _, f := range a.Files {
			size := fmt.Sprintf("%10d", f.Size)
			if f.Major != 0 || f.Minor != 0 {
				size = fmt.Sprintf("%5d,%4d", f.Major, f.Minor)
			}
			_, err := fmt.Fprintf(w, "%s %5d %5d %s %s\n", f.FileMode(), f.UID, f.GID, size, printable(f.Name))
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// printable quotes a name that could confuse a terminal.
func printable(name string) string {
	if quoted := fmt.Sprintf("%q", name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}
