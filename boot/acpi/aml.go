package acpi

import (
	"encoding/binary"
	"fmt"
)

var le = binary.LittleEndian

// Opcodes and prefixes of the ACPI Machine Language. ACPI 6.5 §20.3.
const (
	opZero      = 0x00
	opOne       = 0x01
	opName      = 0x08
	opByte      = 0x0a
	opWord      = 0x0b
	opDWord     = 0x0c
	opString    = 0x0d
	opQWord     = 0x0e
	opScope     = 0x10
	opBuffer    = 0x11
	opPackage   = 0x12
	opMethod    = 0x14
	opExt       = 0x5b
	opNotify    = 0x86
	extOpDevice = 0x82
)

// Term is a piece of AML. Terms are put together from the inside out:
//
//	Scope("_SB_", Dev("COM1", Name("_HID", EISAID("PNP0501"))))
type Term []byte

// concat joins terms.
func concat(terms ...Term) Term {
	var all Term
	for _, t := range terms {
		all = append(all, t...)
	}
	return all
}

// withLength puts a PkgLength, which counts itself, in front of a body. ACPI
// 6.5 §20.2.4: one byte up to 63, else a lead byte with the count of further
// bytes and the low 4 bits.
func withLength(body Term) Term {
	n := len(body)
	if n+1 < 1<<6 {
		return append(Term{byte(n + 1)}, body...)
	}
	for extra := 1; ; extra++ {
		if total := n + 1 + extra; extra == 3 || total < 1<<(4+8*extra) {
			length := Term{byte(extra<<6 | total&0xf)}
			for rest := total >> 4; extra > 0; extra-- {
				length = append(length, byte(rest))
				rest >>= 8
			}
			return append(length, body...)
		}
	}
}

// name is a name segment: four characters. ACPI 6.5 §20.2.2.
func name(s string) Term {
	if len(s) != 4 {
		panic(fmt.Sprintf("acpi: name %q does not have four characters", s))
	}
	return Term(s)
}

// Scope opens a scope below the one around it, such as "_SB_" below the root,
// around terms.
func Scope(at string, body ...Term) Term {
	return append(Term{opScope}, withLength(append(name(at), concat(body...)...))...)
}

// Dev is a device with the objects that describe it.
func Dev(id string, body ...Term) Term {
	return append(Term{opExt, extOpDevice}, withLength(append(name(id), concat(body...)...))...)
}

// Method is a method with a number of arguments, of which one call runs at a time.
// ACPI 6.5 §20.2.5.2.
func Method(id string, args int, body ...Term) Term {
	const serialized = 1 << 3
	head := append(name(id), byte(args|serialized))
	return append(Term{opMethod}, withLength(append(head, concat(body...)...))...)
}

// Notify tells the driver of a device in the same scope, or one above, of an event.
// ACPI 6.5 §20.2.5.3.
func Notify(device string, event uint64) Term {
	return concat(Term{opNotify}, name(device), Int(event))
}

// Name gives a value a name.
func Name(id string, value Term) Term { return append(append(Term{opName}, name(id)...), value...) }

// Int is an integer in the shortest form.
func Int(n uint64) Term {
	switch {
	case n == 0:
		return Term{opZero}
	case n == 1:
		return Term{opOne}
	case n < 1<<8:
		return Term{opByte, byte(n)}
	case n < 1<<16:
		return le.AppendUint16(Term{opWord}, uint16(n))
	case n < 1<<32:
		return le.AppendUint32(Term{opDWord}, uint32(n))
	}
	return le.AppendUint64(Term{opQWord}, n)
}

// Str is a string.
func Str(s string) Term { return append(append(Term{opString}, s...), 0) }

// Package is a list of at most 255 values.
func Package(values ...Term) Term {
	return append(Term{opPackage}, withLength(append(Term{byte(len(values))}, concat(values...)...))...)
}

// buffer is an array of bytes.
func buffer(data []byte) Term {
	return append(Term{opBuffer}, withLength(append(Int(uint64(len(data))), data...))...)
}

// EISAID is a plug-and-play identifier such as "PNP0501", packed into 32 bits:
// three letters of 5 bits and four hexadecimal digits. ACPI 6.5 §19.3.4.
func EISAID(id string) Term {
	var letters, digits uint32
	if n, err := fmt.Sscanf(id[3:], "%04X", &digits); n != 1 || err != nil || len(id) != 7 {
		panic(fmt.Sprintf("acpi: %q is not an EISA identifier", id))
	}
	for _, c := range id[:3] {
		letters = letters<<5 | uint32(c-'A'+1)
	}
	var packed [4]byte
	binary.BigEndian.PutUint32(packed[:], letters<<16|digits)
	return le.AppendUint32(Term{opDWord}, le.Uint32(packed[:]))
}

// Resources is a resource template: what a device occupies. ACPI 6.5 §6.4.
func Resources(items ...Term) Term {
	const endTag = 0x79 // with a checksum of zero: "treat as correct"
	return buffer(append(concat(items...), endTag, 0))
}

// Ports is a range of I/O ports. ACPI 6.5 §6.4.2.5.
func Ports(base uint16, n uint8) Term {
	const tag, decode16 = 0x47, 1
	t := Term{tag, decode16}
	t = le.AppendUint16(t, base) // lowest base
	t = le.AppendUint16(t, base) // highest base
	return append(t, 1, n)       // alignment, length
}

// IRQ is an interrupt, by its global number. ACPI 6.5 §6.4.3.6. An edge is
// the rising one; a level is active high.
func IRQ(gsi uint32, edge bool) Term {
	const tag, consumer = 0x89, 1 << 0
	flags := byte(consumer)
	if edge {
		flags |= 1 << 1
	}
	t := append(le.AppendUint16(Term{tag}, 6), flags, 1)
	return le.AppendUint32(t, gsi)
}

// Memory is a fixed range of memory below 4 GiB. ACPI 6.5 §6.4.3.4.
func Memory(base, size uint32) Term {
	const tag, writable = 0x86, 1
	t := append(le.AppendUint16(Term{tag}, 9), writable)
	t = le.AppendUint32(t, base)
	return le.AppendUint32(t, size)
}

// Window is a range of memory below 4 GiB that a bridge passes on to the devices
// behind it. ACPI 6.5 §6.4.3.5.2.
func Window(base, size uint32) Term {
	const tag, memory, fixed, writable = 0x87, 0, 1<<2 | 1<<3, 1
	t := append(le.AppendUint16(Term{tag}, 23), memory, fixed, writable)
	for _, v := range []uint32{0, base, base + size - 1, 0, size} { // granularity, range, translation, length
		t = le.AppendUint32(t, v)
	}
	return t
}

// HighWindow is the same in 64 bits, for what lies above RAM. ACPI 6.5 §6.4.3.5.1.
func HighWindow(base, size uint64) Term {
	const tag, memory, fixed, writable = 0x8a, 0, 1<<2 | 1<<3, 1
	t := append(le.AppendUint16(Term{tag}, 43), memory, fixed, writable)
	for _, v := range []uint64{0, base, base + size - 1, 0, size} { // granularity, range, translation, length
		t = le.AppendUint64(t, v)
	}
	return t
}

// BusNumbers is the range of bus numbers behind a bridge. ACPI 6.5 §6.4.3.5.3.
func BusNumbers(first, last uint16) Term {
	const tag, bus, fixed = 0x88, 2, 1<<2 | 1<<3
	t := append(le.AppendUint16(Term{tag}, 13), bus, fixed, 0)
	for _, v := range []uint16{0, first, last, 0, last - first + 1} {
		t = le.AppendUint16(t, v)
	}
	return t
}
