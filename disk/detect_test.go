package disk

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vmm/memory"
)

// Images of other formats, as qemu-img makes them, are recognised and refused with
// the command that converts them.
func TestOtherFormats(t *testing.T) {
	source := file(t, bytes.Repeat([]byte("disk"), 512<<10))
	for format, options := range map[string][]string{
		"qcow2": {"", "compat=0.10"}, "qcow": {""}, "qed": {""}, "vdi": {""}, "vhdx": {""}, "parallels": {""},
		"vmdk": {"", "subformat=monolithicFlat", "subformat=streamOptimized", "subformat=twoGbMaxExtentSparse"},
		"vpc":  {"", "subformat=fixed"},
	} {
		for _, option := range options {
			path := filepath.Join(t.TempDir(), "disk.img")
			args := []string{"convert", "-f", "raw", "-O", format}
			if option != "" {
				args = append(args, "-o", option)
			}
			if out, err := exec.Command("qemu-img", append(args, source, path)...).CombinedOutput(); err != nil {
				t.Errorf("%s: qemu-img: %v\n%s", format, err, out)
				continue
			}
			for _, readOnly := range []bool{false, true} {
				image, err := Open(Config{Path: path, ReadOnly: readOnly})
				if err == nil {
					image.Close()
					t.Errorf("%s %s opens as a raw image", format, option)
					continue
				}
				want := "qemu-img convert -f " + format + " -O raw"
				if format == "qcow2" {
					want = "format=qcow2,ro"
				}
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s %s: %v; want %q", format, option, err, want)
				}
			}
		}
	}
}

// magics are what a guest could write to make its disk look like another format.
func magics() map[string][]byte {
	all := map[string][]byte{}
	for _, c := range containers {
		sector := make([]byte, SectorSize)
		copy(sector[c.off:], c.magic)
		key := "head"
		if c.tail {
			key = "tail"
		}
		all[key+c.name+c.magic] = sector
	}
	return all
}

// What a guest writes to its disk does not keep the machine from starting again,
// and never changes what the disk is taken for.
func TestGuestWritesMagic(t *testing.T) {
	const size = 1 << 20
	for _, format := range []Format{"", FormatRaw} {
		for name, sector := range magics() {
			path := file(t, bytes.Repeat([]byte{0x55}, size))
			image := mustOpen(t, Config{Path: path, Format: format})
			off := int64(0)
			if strings.HasPrefix(name, "tail") {
				off = size - SectorSize
			}
			around := bytes.Repeat([]byte{0xaa}, size)
			copy(around[off:], sector)
			for what, err := range map[string]error{
				"alone":   image.Write(vector(sector[:50], sector[50:]), off, false, false),
				"synced":  image.Write(vector(sector), off, true, true),
				"in more": image.Write(vector(around), 0, false, true),
			} {
				if format == "" && !errors.Is(err, unix.EPERM) || format == FormatRaw && err != nil {
					t.Errorf("%q, %s: %v", name, what, err)
				}
			}
			if _, ok := image.(interface {
				File(v *memory.Vector, off int64, write bool) (int, bool)
			}).File(vector(sector), off, true); ok != (format == FormatRaw) {
				t.Errorf("%q: io_uring may write it: %v", name, ok)
			}
			// Other contents are the guest's affair.
			if err := image.Write(vector(bytes.Repeat([]byte{0xbb}, size)), 0, false, true); err != nil {
				t.Errorf("%q: %v", name, err)
			}
			if err := image.Write(vector(sector), 4096, false, true); err != nil {
				t.Errorf("%q elsewhere: %v", name, err)
			}
			image.Close()
			again, err := Open(Config{Path: path, Format: format})
			if err != nil {
				t.Errorf("%q: it does not open again: %v", name, err)
				continue
			}
			if again.Size() != size {
				t.Errorf("%q: %d bytes", name, again.Size())
			}
			again.Close()
			if info, err := os.Stat(path); err != nil || info.Size() != size {
				t.Errorf("%q: the file has %d bytes, %v", name, info.Size(), err)
			}
		}
	}
}
