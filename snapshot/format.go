// Package snapshot is the folder in which a machine is saved: a description, in JSON,
// and its memory. What the description says is the machine's affair; this package sees
// to it that a snapshot is there as a whole or not at all, and that what is read is what
// was written. docs/snapshot.md describes the format.
//
// A snapshot comes from outside: sizes are bounded, and only the files of the folder
// itself are opened.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"vmm/memory"
)

// Version is the version of the format.
const Version = 1

// Files of a snapshot.
const (
	descriptionFile = "machine.json"
	memoryFile      = "memory"
	sumsFile        = "memory.crc32c"
)

// names are the files in the order in which they are written.
var names = []string{memoryFile, sumsFile, descriptionFile}

const (
	format = "vmm snapshot"

	maxHeader      = 4096     // bytes, of the description's first line
	maxDescription = 64 << 20 // bytes: 64 vCPUs have a megabyte or two
	maxMemory      = 1 << 46  // bytes
	sumSize        = 4        // bytes, of a checksum in sumsFile
	pageSize       = memory.PageSize
)

// header is the first line of the description. It has the checksums of what follows and
// of sumsFile, which has those of the memory.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Description is what follows the line.
	Description part `json:"description"`
	// Memory is the size of the memory, in bytes, and Sums its checksums.
	Memory uint64 `json:"memory"`
	Sums   part   `json:"sums"`
}

// part is a part of a snapshot, with its checksum.
type part struct {
	Size   int64  `json:"size"` // bytes
	CRC32C uint32 `json:"crc32c"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func partOf(b []byte) part { return part{int64(len(b)), crc32.Checksum(b, castagnoli)} }

// check is an error when b is not the part.
func (p part) check(b []byte) error {
	if got := partOf(b); got != p {
		return fmt.Errorf("it is damaged: %d bytes with checksum %08x instead of %d with %08x", got.Size, got.CRC32C, p.Size, p.CRC32C)
	}
	return nil
}

// parseHeader reads the first line of a description.
func parseHeader(line []byte) (header, error) {
	var h header
	if err := json.Unmarshal(line, &h); err != nil || h.Format != format {
		return h, errors.New("it is not the description of a snapshot")
	}
	if h.Version != Version {
		return h, fmt.Errorf("it has version %d of the format, and this vmm reads version %d; use the vmm that saved it", h.Version, Version)
	}
	chunks := (h.Memory + memory.ChunkSize - 1) / memory.ChunkSize
	switch {
	case h.Description.Size < 0 || h.Description.Size > maxDescription:
		return h, fmt.Errorf("description: %d bytes are more than %d", h.Description.Size, maxDescription)
	case h.Memory == 0 || h.Memory > maxMemory || h.Memory%pageSize != 0:
		return h, fmt.Errorf("memory: a size of %d bytes", h.Memory)
	case h.Sums.Size != int64(chunks*sumSize):
		return h, fmt.Errorf("sums: %d bytes instead of %d", h.Sums.Size, chunks*sumSize)
	}
	return h, nil
}
