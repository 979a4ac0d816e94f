package kvm

import "encoding/binary"

// legacy is how the extended state begins: the legacy region, and XSTATE_BV of
// the header. Intel SDM vol. 1 §10.5.1, table 10-2, and §13.4.
type legacy struct {
	FCW        uint16
	FSW        uint16
	FTWX       uint8
	_          uint8
	LastOpcode uint16
	LastIP     uint64
	LastDP     uint64
	MXCSR      uint32
	MXCSRMask  uint32
	FPR        [8][16]uint8
	XMM        [16][16]uint8
	_          [96]uint8
	Used       uint64 // XSTATE_BV
}

// Bits of XSTATE_BV. A component without its bit has its initial value, whatever
// the region says. Intel SDM vol. 1 §13.4.2.
const (
	usedX87 = 1 << 0
	usedSSE = 1 << 1
)

func (x *XSave) legacy() (l legacy) {
	_, _ = binary.Decode(x.Region[:], binary.LittleEndian, &l) // the region is large enough
	return l
}

// FPU is the x87 and SSE part of the state.
func (x *XSave) FPU() FPU {
	l := x.legacy()
	return FPU{
		FPR: l.FPR, FCW: l.FCW, FSW: l.FSW, FTWX: l.FTWX, LastOpcode: l.LastOpcode,
		LastIP: l.LastIP, LastDP: l.LastDP, XMM: l.XMM, MXCSR: l.MXCSR,
	}
}

// SetFPU changes the x87 and SSE part of the state, and marks both as used.
func (x *XSave) SetFPU(f FPU) {
	l := x.legacy()
	l.FPR, l.FCW, l.FSW, l.FTWX, l.LastOpcode = f.FPR, f.FCW, f.FSW, f.FTWX, f.LastOpcode
	l.LastIP, l.LastDP, l.XMM, l.MXCSR = f.LastIP, f.LastDP, f.XMM, f.MXCSR
	l.Used |= usedX87 | usedSSE
	_, _ = binary.Encode(x.Region[:], binary.LittleEndian, &l)
}
