package result

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Describe measures a file, or all files of a folder, and hashes it.
func Describe(role, path string) (File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return File{}, err
	}
	f := File{Role: role, Path: real, Read: -1}
	hash := sha256.New()
	err = filepath.WalkDir(real, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f.Size += info.Size()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			f.OnDisk += st.Blocks * 512
		}
		if p != real {
			rel, _ := filepath.Rel(real, p)
			_, _ = io.WriteString(hash, rel+"\x00")
		}
		file, err := os.Open(p)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(hash, file)
		return err
	})
	f.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return f, err
}
