package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"vmm/image"
	"vmm/image/tree"
)

// Install unpacks the archive with what instances are started from, which 'make
// bench-archive' makes, into a folder that is not there yet. So a host measures that
// has no source and no compiler.
func Install(archive, dir string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("it takes root, as measuring does: run it with sudo")
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already: remove it, or choose another folder with --assets", dir)
	}
	from, err := image.OpenArchive(archive)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	files, err := tree.Make(filepath.Join(work, "assets"))
	if err != nil {
		return err
	}
	defer files.Close()
	if err := files.Unpack(from, tree.Archive{Root: true}); err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	if !files.IsFile("kernel/vmlinux") || !files.IsFile("app/rest-c") {
		return fmt.Errorf("%s: not an archive of 'make bench-archive': it has no kernel/vmlinux or app/rest-c", archive)
	}
	if _, err := files.Finish(); err != nil {
		return err
	}
	return os.Rename(files.Path(), dir)
}
