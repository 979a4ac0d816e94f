package system

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Images that vmm image build makes of a folder, an archive and a container
// image are in order, and the guest finds in them what went in.
func TestImages(t *testing.T) {
	dir := t.TempDir()
	files, archive := filepath.Join(dir, "files"), filepath.Join(dir, "files.tar")
	if err := os.MkdirAll(filepath.Join(files, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(files, "etc", "motd"), []byte("hello\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	noise(t, filepath.Join(files, "noise"), 4*mib)
	host(t, "tar", "-C", files, "-cf", archive, ".")
	layer, err := tarball.LayerFromFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	container, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	oci, err := layout.Write(filepath.Join(dir, "oci"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := oci.AppendImage(container); err != nil {
		t.Fatal(err)
	}
	var disks []string
	sources := []struct{ kind, path string }{{"dir", files}, {"tar", archive}, {"oci-layout", filepath.Join(dir, "oci")}}
	for _, s := range sources {
		path := filepath.Join(dir, s.kind+".img")
		host(t, env(t, "VMM_BIN"), "image", "build", "--from", s.kind, s.path, "-o", path)
		host(t, "/sbin/e2fsck", "-fn", path)
		disks = append(disks, "--disk", "path="+path)
	}
	v := serve(t, append(disks, "--share", "path="+files+",tag=files,ro")...)
	mountShare(v, "files", "/files", ",ro")
	for i, s := range sources {
		if out, status := v.try("set -e; mkdir -p /%[1]s; mount /dev/vd%[2]c /%[1]s; cd /%[1]s; cmp noise /files/noise; cmp etc/motd /files/etc/motd; stat -c '%%a %%u' etc/motd; touch new; umount -l /%[1]s", s.kind, 'b'+i); status != 0 || out != "640 0" {
			t.Errorf("%s: status %d, %s", s.kind, status, out)
		}
	}
	v.powerOff()
	for _, s := range sources {
		host(t, "/sbin/e2fsck", "-fn", filepath.Join(dir, s.kind+".img"))
	}
}
