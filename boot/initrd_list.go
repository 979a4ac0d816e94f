package boot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Archive is one of the cpio archives that an initrd is made of.
type Archive struct {
	Compression Compression `json:"compression"`
	// Offset is where in the file the archive begins, or the compressed data
	// that it comes from.
	Offset int64  `json:"offset"`
	Files  []File `json:"files"`
}

// ListInitrd lists the files of an initrd of size bytes: any number of plain
// cpio archives, such as one with a processor's microcode, then perhaps
// compressed data with more of them.
// Documentation/driver-api/early-userspace/buffer-format.rst. With an error it
// returns what comes before the place that is wrong.
func ListInitrd(name string, r io.ReaderAt, size int64) ([]Archive, error) {
	archives, err := listArchives(r, size)
	if err != nil {
		err = fmt.Errorf("initrd %s: %w", name, err)
	}
	return archives, err
}

func listArchives(r io.ReaderAt, size int64) ([]Archive, error) {
	if size == 0 {
		return nil, errors.New("the file is empty")
	}
	var archives []Archive
	for off := int64(0); ; {
		body := bufio.NewReader(io.NewSectionReader(r, off, size-off))
		zeros, err := skipZeros(body)
		if err == io.EOF {
			break
		}
		if err != nil {
			return archives, err
		}
		off += zeros
		head, _ := body.Peek(16) // may be fewer
		compression := detectCompression(head)
		switch {
		case compression != Uncompressed:
			// Where compressed data ends shows only when it is unpacked, and
			// how much its reader took beyond that does not: it is the last.
			packed, err := listCompressed(compression, body)
			for _, files := range packed {
				archives = append(archives, Archive{compression, off, files})
			}
			if err != nil {
				err = fmt.Errorf("%v data at byte %d: %w", compression, off, err)
			}
			return archives, err
		case !bytes.HasPrefix(head, []byte("0707")):
			return archives, fmt.Errorf("what is at byte %d is neither a cpio archive nor compressed in a way that Linux knows", off)
		case off%4 != 0:
			return archives, fmt.Errorf("the cpio archive at byte %d is not at a multiple of 4, where Linux looks for one", off)
		}
		c := cpioReader{r: body}
		files, err := c.archive()
		archives = append(archives, Archive{compression, off, files})
		if err != nil {
			return archives, fmt.Errorf("cpio archive at byte %d: %w", off, err)
		}
		off += c.n
	}
	if len(archives) == 0 {
		return nil, errors.New("nothing but zeros")
	}
	return archives, nil
}

// listCompressed lists the archives in compressed data.
func listCompressed(compression Compression, r io.Reader) ([][]File, error) {
	unpacked, err := decompressor(compression, r)
	if err != nil {
		return nil, err
	}
	defer unpacked.Close()
	body := bufio.NewReader(unpacked)
	var archives [][]File
	for {
		// After an archive whatever is not another ends the list, as an error
		// of the decompressor does: padding of the file looks like one.
		_, err := skipZeros(body)
		if len(archives) > 0 && (err != nil || !startsArchive(body)) {
			return archives, nil
		}
		if err != nil {
			return nil, noEOF(err)
		}
		c := cpioReader{r: body}
		files, err := c.archive()
		archives = append(archives, files)
		if err != nil {
			return archives, err
		}
	}
}

func startsArchive(r *bufio.Reader) bool {
	head, _ := r.Peek(len(cpioMagic))
	return string(head) == cpioMagic || string(head) == cpioMagicCRC
}

// skipZeros reads zeros until another byte comes, which it leaves, and counts
// them.
func skipZeros(r *bufio.Reader) (int64, error) {
	for n := int64(0); ; n++ {
		b, err := r.ReadByte()
		if err != nil {
			return n, err
		}
		if b != 0 {
			return n, r.UnreadByte()
		}
	}
}

// WriteInitrd lists archives as ls -l does.
func WriteInitrd(w io.Writer, archives []Archive) error {
	b := bufio.NewWriter(w)
	for _, a := range archives {
		fmt.Fprintf(b, "# cpio archive at byte %d, compression %v, %d files\n", a.Offset, a.Compression, len(a.Files))
		for _, f := range a.Files {
			f.write(b)
		}
	}
	return b.Flush()
}

func (f File) write(w io.Writer) {
	size := fmt.Sprint(f.Size)
	if t := f.Mode & typeMask; t == typeChar || t == typeBlock {
		size = fmt.Sprintf("%d, %d", f.Major, f.Minor)
	}
	fmt.Fprintf(w, "%s %5d %5d %10s %s", f.modeString(), f.UID, f.GID, size, printable(f.Name))
	if f.Link != "" {
		fmt.Fprintf(w, " -> %s", printable(f.Link))
	}
	fmt.Fprintln(w)
}

// modeString is the mode as ls writes it, such as "drwxr-xr-x".
func (f File) modeString() string {
	const types = "?pc?d?b?-?l?s???" // by the upper four bits
	s := []byte{types[f.Mode>>12&0xf]}
	for shift := 6; shift >= 0; shift -= 3 {
		for i, c := range []byte("rwx") {
			if f.Mode>>shift>>(2-i)&1 == 0 {
				c = '-'
			}
			s = append(s, c)
		}
	}
	// Set-user-ID, set-group-ID and sticky show in place of an x, in capitals
	// where there is none.
	for i, c := range []byte("sst") {
		if f.Mode>>(11-i)&1 == 0 {
			continue
		}
		if x := &s[3+3*i]; *x == 'x' {
			*x = c
		} else {
			*x = c - 'a' + 'A'
		}
	}
	return string(s)
}
