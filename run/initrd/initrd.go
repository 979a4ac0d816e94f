// Package initrd writes the initial RAM disk with the first process of a guest that
// runs an image.
package initrd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"vmm/image/tree"
	"vmm/run/protocol"
)

// Write writes the program init, what it is to do, and from the folder modules those
// of the kernel; "" for none. The kernel adds them to what another initial RAM disk in
// front has.
func Write(w io.Writer, spec *protocol.Spec, init, modules string) error {
	if err := spec.Check(); err != nil {
		return err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if len(text) > protocol.MaxSpec {
		return fmt.Errorf("the command and its environment take %d bytes; at most %d are taken", len(text), protocol.MaxSpec)
	}
	members := []tree.Member{
		{Path: protocol.Folder, Mode: 0o755},
		{Path: protocol.SpecPath, Contents: bytes.NewReader(text), Size: int64(len(text)), Mode: 0o600},
	}
	files := map[string]string{protocol.InitPath: init}
	if modules != "" {
		members = append(members, tree.Member{Path: protocol.ModulesPath, Mode: 0o755})
		entries, err := os.ReadDir(modules)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Type().IsRegular() {
				files[protocol.ModulesPath+"/"+e.Name()] = filepath.Join(modules, e.Name())
			}
		}
	}
	for path, from := range files {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		members = append(members, tree.Member{Path: path, Contents: f, Size: info.Size(), Mode: 0o755})
	}
	// Without a console a program's first process cannot even say what is wrong.
	return tree.WriteMembers(w, true, members)
}
