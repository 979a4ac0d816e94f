package boot

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"strings"
)

// KernelInfo is what there is to know of a kernel image.
type KernelInfo struct {
	File    string `json:"file"`
	Size    int64  `json:"size"` // in bytes
	Format  string `json:"format"`
	Version string `json:"version,omitempty"` // of the kernel, as it names itself
	// Protocol is the version of the boot protocol, such as 2.15.
	Protocol string       `json:"boot_protocol,omitempty"`
	Entries  []EntryPoint `json:"entries"` // those that vmm can use
	// Program says that the file looks like a program for an operating system: vmm
	// enters it by a protocol that is named, and not of itself.
	Program bool `json:"program,omitempty"`
	// Packed is how the whole file is compressed; "" for not.
	Packed string       `json:"packed,omitempty"`
	Header *SetupHeader `json:"header,omitempty"`
	// LoadFlags and XLoadFlags name the bits that are set in the header's
	// fields.
	LoadFlags  []string `json:"loadflags,omitempty"`
	XLoadFlags []string `json:"xloadflags,omitempty"`
	Payload    *Payload `json:"payload,omitempty"`
	// ELF is the image itself, or what the payload unpacks to.
	ELF *ELFInfo `json:"elf,omitempty"`
	// Relocations is the number of entries of the relocation table, which a
	// kernel has that was built for random addresses (KASLR).
	Relocations int `json:"relocations"`
	// Problem says why ELF is missing.
	Problem string `json:"problem,omitempty"`
}

// EntryPoint is where a boot protocol enters a kernel: a guest-physical
// address.
type EntryPoint struct {
	Protocol string `json:"protocol"`
	Address  uint64 `json:"address"`
}

// ELFInfo describes an ELF kernel.
type ELFInfo struct {
	Class    string        `json:"class"`
	Machine  string        `json:"machine"`
	Type     string        `json:"type"`
	Entry    uint64        `json:"entry"` // as in the file header
	Entries  []EntryPoint  `json:"entries"`
	Segments []SegmentInfo `json:"segments"`
	Notes    []NoteInfo    `json:"notes"`
}

// SegmentInfo describes a program header. Sizes are in bytes.
type SegmentInfo struct {
	Type     string `json:"type"`
	Flags    string `json:"flags"` // such as "RW-"
	Offset   uint64 `json:"offset"`
	VAddr    uint64 `json:"vaddr"`
	PAddr    uint64 `json:"paddr"`
	FileSize uint64 `json:"filesz"`
	MemSize  uint64 `json:"memsz"`
}

// NoteInfo describes an ELF note.
type NoteInfo struct {
	Owner string  `json:"owner"`
	Type  uint32  `json:"type"`
	Name  string  `json:"name,omitempty"`  // of the type, where it is known
	Desc  string  `json:"desc"`            // hexadecimal
	Text  string  `json:"text,omitempty"`  // Desc where it is text
	Value *uint64 `json:"value,omitempty"` // Desc where it is a number
}

// Inspect collects what there is to know of an image. It unpacks the payload
// of a bzImage.
func (img *Image) Inspect() *KernelInfo {
	info := &KernelInfo{File: img.Name, Size: img.size, Format: img.Format.String(), Program: img.isProgram()}
	if img.Packed != Uncompressed {
		info.Packed = img.Packed.String()
	}
	if img.ELF != nil {
		info.Entries = img.inspectELF(info)
	}
	if img.Multiboot != nil {
		if entry, ok := img.Multiboot.physicalEntry(); ok {
			info.Entries = append(info.Entries, EntryPoint{Multiboot.String(), entry})
		}
	}
	if img.Header == nil {
		return info
	}
	h := img.Header
	info.Header = h
	info.Version = img.kernelVersion()
	info.Protocol = h.version()
	info.LoadFlags = bitNames(uint16(h.LoadFlags), loadFlagNames)
	info.XLoadFlags = bitNames(h.XLoadFlags, xloadFlagNames)
	if h.has64() {
		info.Entries = append(info.Entries, EntryPoint{Linux64.String(), h.loadAddress() + entry64})
	}
	info.Entries = append(info.Entries, EntryPoint{Linux32.String(), h.loadAddress()})
	if !img.hasPayload() {
		return info
	}
	if err := img.inspectPayload(info); err != nil {
		info.Problem = err.Error()
	}
	return info
}

func (img *Image) inspectPayload(info *KernelInfo) error {
	payload, err := img.Payload()
	if err != nil {
		return err
	}
	info.Payload = &payload
	vmlinux, err := img.Vmlinux() // not Unpack, which changes a little
	if err != nil {
		return err
	}
	kernel, err := img.Unpacked(bytes.NewReader(vmlinux), int64(len(vmlinux)), nil)
	if err != nil {
		return err
	}
	for _, e := range kernel.inspectELF(info) {
		if e.Protocol == Linux64.String() { // of the kernel in the image, that is
			info.Entries = append([]EntryPoint{{Direct.String(), e.Address}}, info.Entries...)
		} else {
			info.Entries = append(info.Entries, e)
		}
	}
	return nil
}

// inspectELF describes an ELF kernel, and returns the entries that it has.
func (img *Image) inspectELF(info *KernelInfo) []EntryPoint {
	info.ELF = newELFInfo(img.ELF)
	if !img.IsLinux() {
		return info.ELF.Entries
	}
	if r, err := img.relocations(); err == nil {
		info.Relocations = r.count()
	}
	return info.ELF.Entries
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

func newELFInfo(exe *Executable) *ELFInfo {
	info := &ELFInfo{
		Class:   strings.TrimPrefix(exe.Class.String(), "ELFCLASS"),
		Machine: strings.TrimPrefix(exe.Machine.String(), "EM_"),
		Type:    strings.TrimPrefix(exe.Type.String(), "ET_"),
		Entry:   exe.Entry,
	}
	if exe.PVH != nil {
		info.Entries = append(info.Entries, EntryPoint{PVH.String(), uint64(*exe.PVH)})
	}
	if entry, ok := exe.physicalEntry(); ok && exe.Class == elf.ELFCLASS64 {
		info.Entries = append(info.Entries, EntryPoint{Linux64.String(), entry})
	}
	for _, s := range exe.Segments {
		flags := []byte("---")
		for i, f := range []elf.ProgFlag{elf.PF_R, elf.PF_W, elf.PF_X} {
			if s.Flags&f != 0 {
				flags[i] = "RWX"[i]
			}
		}
		info.Segments = append(info.Segments, SegmentInfo{
			Type: strings.TrimPrefix(s.Type.String(), "PT_"), Flags: string(flags), Offset: s.Offset,
			VAddr: s.VAddr, PAddr: s.PAddr, FileSize: s.FileSize, MemSize: s.MemSize,
		})
	}
	for _, n := range exe.Notes {
		info.Notes = append(info.Notes, NoteInfo{
			Owner: n.Owner, Type: n.Type, Name: n.name(), Desc: hex.EncodeToString(n.Desc), Text: n.text(), Value: n.value(),
		})
	}
	return info
}

// xenNotes are the types of Xen's notes. include/xen/interface/elfnote.h.
var xenNotes = [...]string{
	"INFO", "ENTRY", "HYPERCALL_PAGE", "VIRT_BASE", "PADDR_OFFSET", "XEN_VERSION", "GUEST_OS", "GUEST_VERSION",
	"LOADER", "PAE_MODE", "FEATURES", "BSD_SYMTAB", "HV_START_LOW", "L1_MFN_VALID", "SUSPEND_CANCEL", "INIT_P2M",
	"MOD_START_PFN", "SUPPORTED_FEATURES", "PHYS32_ENTRY", "PHYS32_RELOC",
}

// name is what the note's owner calls its type, "" where that is not known.
func (n Note) name() string {
	switch {
	case n.Owner == ownerXen && int64(n.Type) < int64(len(xenNotes)):
		return xenNotes[n.Type]
	case n.Owner == "GNU" && n.Type == 3:
		return "BUILD_ID"
	case n.Owner == "Linux" && n.Type == 0x100: // include/linux/build-salt.h
		return "BUILD_SALT"
	case n.Owner == "Linux" && n.Type == 0x101: // include/linux/elfnote-lto.h
		return "LTO_INFO"
	}
	return ""
}

// text is the note's contents where they are a string, "" otherwise.
func (n Note) text() string {
	s, rest, ok := bytes.Cut(n.Desc, []byte{0})
	if len(s) < 2 || ok && len(rest) > 0 {
		return ""
	}
	for _, c := range s {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return string(s)
}

// value is the contents of one of Xen's notes where they are a number, nil
// otherwise.
func (n Note) value() *uint64 {
	if n.Owner != ownerXen || n.text() != "" {
		return nil
	}
	var v uint64
	switch len(n.Desc) {
	case 4:
		v = uint64(le.Uint32(n.Desc))
	case 8:
		v = le.Uint64(n.Desc)
	default:
		return nil
	}
	return &v
}
