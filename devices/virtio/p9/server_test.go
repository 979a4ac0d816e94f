package p9_test

import (
	"testing"

	"vmm/devices/virtio/p9"
	"vmm/share"
	"vmm/share/ninep"
)

// server is the server of a folder.
func server(t testing.TB, dir string) p9.Server {
	t.Helper()
	folder, err := share.Open(dir, false, share.NewBudget())
	if err != nil {
		t.Fatal(err)
	}
	return ninep.New(folder)
}
