package runtime

import (
	"context"
	"os"
	"path/filepath"
)

// tiny is what a unikernel is among containers: one program, linked statically,
// and nothing beside it; no capabilities, and of the system calls only those that
// it makes.
type tiny struct {
	oci
	again string // script that compiles the application anew
}

var _ Rebuilder = (*tiny)(nil)

func unikernelContainer(app App, assets Assets) Runtime {
	return &tiny{
		oci{app: app, name: "unikernel-container", program: "crun", get: "Debian: apt-get install crun", root: assets.root(app), tiny: true},
		assets.again("app"),
	}
}

// Rebuild compiles the application, and puts it into a container of its own.
func (t *tiny) Rebuild(ctx context.Context, dir string) (Runtime, error) {
	changed := *t
	changed.root = filepath.Join(dir, "container")
	for _, mount := range []string{"proc", "sys", "dev", "etc"} {
		if err := os.MkdirAll(filepath.Join(changed.root, mount), 0o755); err != nil {
			return nil, err
		}
	}
	return &changed, rebuild(ctx, t.again, "c", "--again", filepath.Join(changed.root, "app"))
}
