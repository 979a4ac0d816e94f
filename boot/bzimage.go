package boot

import "vmm/memory"

// entry64 is the offset of the 64-bit entry from the load address.
// Documentation/arch/x86/boot.rst, "64-bit Boot Protocol".
const entry64 = 0x200

// loadBzImage loads the compressed kernel as it is; code inside the guest
// decompresses it, and does with its addresses what the command line says.
func (l *Loaded) loadBzImage(p Params) error {
	img := l.img
	h := img.Header
	if p.Protocol == Linux64 && !h.has64() {
		return img.errorf("a 32-bit kernel, or one older than Linux 3.8: it has no 64-bit entry; use --boot-protocol linux32")
	}
	off := h.kernelOffset()
	size := uint64(img.size - off)
	code := memory.Range{Start: h.loadAddress(), Size: size}
	run := h.runs()
	for _, r := range []memory.Range{code, run} {
		if err := img.checkRoom(l.mem, r); err != nil {
			return err
		}
	}
	kernel := union(code, run)
	initrd, err := p.Initrd.place(l.mem, kernel.End(), h.initrdMax())
	if err != nil {
		return err
	}
	f := filler{mem: l.mem}
	if err := f.addInitrd(p.Initrd, initrd); err != nil {
		return err
	}
	if err := f.add(code.Start, img.r, nil, off, size, img.named); err != nil {
		return err
	}
	if err := f.run(); err != nil {
		return err
	}
	l.taken = []memory.Range{kernel}
	l.header = *h
	l.header.Code32Start = uint32(code.Start)
	l.entry.RIP, l.entry.Kernel, l.entry.Initrd = code.Start, kernel, initrd
	if h.Version >= version208 && h.PayloadLength > 0 {
		l.entry.Unpacker = code.Start + uint64(h.PayloadOffset) + uint64(h.PayloadLength)
	}
	if p.Protocol == Linux64 {
		l.entry.Mode = LongMode
		l.entry.RIP += entry64
	}
	return nil
}
