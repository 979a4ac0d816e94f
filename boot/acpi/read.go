package acpi

import (
	"errors"
	"fmt"
	"io"
)

// Found is a table that Read found.
type Found struct {
	Signature string `json:"signature"`
	Addr      uint64 `json:"address"` // guest-physical
	Revision  int    `json:"revision"`
	OEM       string `json:"oem"`
	Valid     bool   `json:"valid"` // its checksum is right
	Data      []byte `json:"data"`  // the table as it is, header included
}

// Limits of what Read believes: the guest may have written over the tables.
const (
	maxTable  = 1 << 20
	maxTables = 64
)

// Read finds the tables, as an operating system does, from the root pointer at
// base on. ACPI 6.5 §5.2.5.
func Read(m io.ReaderAt, base uint64) ([]Found, error) {
	root := make([]byte, rsdpSize)
	if _, err := m.ReadAt(root, int64(base)); err != nil {
		return nil, err
	}
	if string(root[:8]) != "RSD PTR " {
		return nil, fmt.Errorf("acpi: no root pointer at %#x; has the guest written over it?", base)
	}
	all := []Found{{
		Signature: "RSD PTR", Addr: base, Revision: int(root[15]), OEM: text(root[9:15]), Valid: checksum(root) == 0, Data: root,
	}}
	xsdt, err := readTable(m, le.Uint64(root[24:]))
	if err != nil {
		return all, err
	}
	all = append(all, xsdt)
	for list := xsdt.Data[headerSize:]; len(list) >= 8 && len(all) < maxTables; list = list[8:] {
		t, err := readTable(m, le.Uint64(list))
		if err != nil {
			return all, err
		}
		all = append(all, t)
		// The FADT leads to the DSDT, which is not listed. ACPI 6.5 §5.2.9.
		if t.Signature == "FACP" && len(t.Data) >= 148 {
			dsdt, err := readTable(m, le.Uint64(t.Data[140:]))
			if err != nil {
				return all, err
			}
			all = append(all, dsdt)
		}
	}
	return all, nil
}

func readTable(m io.ReaderAt, addr uint64) (Found, error) {
	var head [headerSize]byte
	if _, err := m.ReadAt(head[:], int64(addr)); err != nil {
		return Found{}, fmt.Errorf("acpi: a table at %#x: %w", addr, err)
	}
	n := le.Uint32(head[4:])
	if n < headerSize || n > maxTable {
		return Found{}, fmt.Errorf("acpi: a table of %d bytes at %#x", n, addr)
	}
	data := make([]byte, n)
	if _, err := m.ReadAt(data, int64(addr)); err != nil {
		return Found{}, fmt.Errorf("acpi: a table at %#x: %w", addr, err)
	}
	return describe(addr, data), nil
}

// describe says what a table's header says.
func describe(addr uint64, data []byte) Found {
	return Found{
		Signature: text(data[:4]), Addr: addr, Revision: int(data[8]), OEM: text(data[10:16]),
		Valid: checksum(data) == 0, Data: data,
	}
}

// Parse reads tables that follow one another, as "vmm inspect acpi" and acpidump
// write them to files.
func Parse(data []byte) ([]Found, error) {
	if len(data) == 0 {
		return nil, errors.New("acpi: no table: the file is empty")
	}
	var all []Found
	for addr := uint64(0); len(data) > 0; {
		if len(data) < headerSize {
			return all, errors.New("acpi: a table is cut off")
		}
		n := le.Uint32(data[4:])
		if n < headerSize || uint64(n) > uint64(len(data)) {
			return all, fmt.Errorf("acpi: no table: it says that it has %d bytes of %d", n, len(data))
		}
		all = append(all, describe(addr, data[:n:n]))
		addr += uint64(n)
		data = data[n:]
	}
	return all, nil
}

// text is a field of characters, as far as they can be printed.
func text(b []byte) string {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c == 0 {
			break
		}
		if c < ' ' || c > '~' {
			c = '?'
		}
		out = append(out, c)
	}
	for len(out) > 0 && out[len(out)-1] == ' ' {
		out = out[:len(out)-1]
	}
	return string(out)
}
