package snapshot

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// Snapshot is a snapshot on disk.
type Snapshot struct {
	// Memory is the file with the memory, as [memory.Guest.Save] wrote it.
	Memory *os.File
	// Size is the size of the memory, in bytes.
	Size uint64

	path        string
	header      header
	description []byte
	dir         *os.File
}

// Open reads the description of a snapshot. The memory is not read: a machine that
// begins with it may touch little of it.
func Open(path string) (*Snapshot, error) {
	s, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", path, err)
	}
	return s, nil
}

func open(path string) (_ *Snapshot, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w; give the folder that 'vmm ctl PATH snapshot' has written", err)
	}
	s := &Snapshot{path: path, dir: os.NewFile(uintptr(fd), path)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.readDescription(); err != nil {
		return nil, fmt.Errorf("%s: %w", descriptionFile, err)
	}
	if s.Memory, err = s.open(memoryFile); err != nil {
		return nil, err
	}
	info, err := s.Memory.Stat()
	if err != nil {
		return nil, err
	}
	if uint64(info.Size()) != s.Size {
		return nil, fmt.Errorf("%s: it is damaged: %d bytes instead of %d", memoryFile, info.Size(), s.Size)
	}
	return s, nil
}

// open opens a file of the folder: a regular one, and no link to another place.
func (s *Snapshot) open(name string) (*os.File, error) {
	fd, err := unix.Openat(int(s.dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: it is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// read reads a file of the folder with at most a number of bytes.
func (s *Snapshot) read(name string, most int64) ([]byte, error) {
	f, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("it has more than %d bytes", most)
	}
	return b, err
}

func (s *Snapshot) readDescription() error {
	text, err := s.read(descriptionFile, maxHeader+maxDescription)
	if err != nil {
		return err
	}
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	if len(line) > maxHeader {
		return errors.New("it is not the description of a snapshot")
	}
	if s.header, err = parseHeader(line); err != nil {
		return err
	}
	if err := s.header.Description.check(rest); err != nil {
		return err
	}
	s.description, s.Size = rest, s.header.Memory
	return nil
}

// Describe fills in what the description says: all of the fields that are there, and no
// others.
func (s *Snapshot) Describe(description any) error {
	d := json.NewDecoder(bytes.NewReader(s.description))
	d.DisallowUnknownFields()
	if err := d.Decode(description); err != nil {
		return fmt.Errorf("snapshot %s: %s: %w", s.path, descriptionFile, err)
	}
	return nil
}

// Verify compares the memory with its checksums.
func (s *Snapshot) Verify() error {
	if err := s.verify(); err != nil {
		return fmt.Errorf("snapshot %s: %w", s.path, err)
	}
	return nil
}

func (s *Snapshot) verify() error {
	sums, err := s.read(sumsFile, s.header.Sums.Size)
	if err == nil {
		err = s.header.Sums.check(sums)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", sumsFile, err)
	}
	chunk := make([]byte, memory.ChunkSize)
	zeros := map[int]uint32{} // by length
	for at := uint64(0); at < s.Size; at += memory.ChunkSize {
		part := chunk[:min(memory.ChunkSize, s.Size-at)]
		var got uint32
		data, err := unix.Seek(int(s.Memory.Fd()), int64(at), unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && data >= int64(at)+int64(len(part)) { // a hole
			sum, known := zeros[len(part)]
			if !known {
				sum = memory.Sum(make([]byte, len(part)))
				zeros[len(part)] = sum
			}
			got = sum
		} else {
			if _, err := s.Memory.ReadAt(part, int64(at)); err != nil {
				return fmt.Errorf("%s: %w", memoryFile, err)
			}
			got = memory.Sum(part)
		}
		if want := binary.LittleEndian.Uint32(sums[at/memory.ChunkSize*sumSize:]); got != want {
			return fmt.Errorf("%s: it is damaged between %#x and %#x", memoryFile, at, at+uint64(len(part)))
		}
	}
	return nil
}

// Stored is how many bytes of the memory the file has, and not holes.
func (s *Snapshot) Stored() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.Memory.Fd()), &st); err != nil {
		return 0, err
	}
	return uint64(st.Blocks) * 512, nil
}

// Close lets go of the files. A machine that was made from the memory keeps it.
func (s *Snapshot) Close() error {
	if s.Memory != nil {
		s.Memory.Close()
	}
	return s.dir.Close()
}
