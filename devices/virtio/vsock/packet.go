package vsock

import "encoding/binary"

var le = binary.LittleEndian

// headerSize is the size of a packet's header, in bytes. virtio §5.10.6.
const headerSize = 44

// header is in front of every packet.
type header struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	len              uint32 // of the payload
	kind             uint16
	op               operation
	flags            uint32
	bufAlloc         uint32 // room for payload at the sender, in all
	fwdCnt           uint32 // payload that the sender is done with, ever
}

type operation uint16

// Operations. virtio §5.10.6.
const (
	opRequest       operation = 1
	opResponse      operation = 2
	opReset         operation = 3
	opShutdown      operation = 4
	opData          operation = 5
	opCreditUpdate  operation = 6
	opCreditRequest operation = 7
)

// kindStream is the only kind of socket without further features.
const kindStream = 1

// Flags of opShutdown: what the sender will not do any more.
const (
	noReceive = 1
	noSend    = 2
)

func parseHeader(b *[headerSize]byte) header {
	return header{
		srcCID: le.Uint64(b[0:]), dstCID: le.Uint64(b[8:]),
		srcPort: le.Uint32(b[16:]), dstPort: le.Uint32(b[20:]),
		len: le.Uint32(b[24:]), kind: le.Uint16(b[28:]), op: operation(le.Uint16(b[30:])),
		flags: le.Uint32(b[32:]), bufAlloc: le.Uint32(b[36:]), fwdCnt: le.Uint32(b[40:]),
	}
}

func (h *header) put(b *[headerSize]byte) {
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.len)
	le.PutUint16(b[28:], h.kind)
	le.PutUint16(b[30:], uint16(h.op))
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.bufAlloc)
	le.PutUint32(b[40:], h.fwdCnt)
}
