package runtime

import (
	"context"
	"path/filepath"
)

// unikernel is a machine of vmm's in which there is no operating system: the C
// application, linked with a TCP/IP stack and the few drivers that it needs.
type unikernel struct {
	machine
	again string // script that compiles the application anew
}

var _ Rebuilder = (*unikernel)(nil)

func (u *unikernel) Describe() Description {
	return Description{Name: "unikernel", Kind: KindUnikernel, Link: LinkTap, Memory: u.memory, Confined: "the guest itself: there are no users"}
}

func (u *unikernel) Files() []File { return []File{{"kernel", u.kernel}} }

func (u *unikernel) Find() (string, error) {
	if u.kernel == "" {
		return "", Missing{"the unikernel runs the application rest-c only", "give --app rest-c for this runtime"}
	}
	vmm, err := vmmPath()
	if err != nil {
		return "", err
	}
	return versionOf(vmm, "version"), u.find(u.Files()...)
}

func (u *unikernel) Start(s Spec) (*Instance, error) {
	vmm, err := vmmPath()
	if err != nil {
		return nil, err
	}
	return launch{
		spec: s, port: u.app.Port, inGroup: true, console: true, stop: terminate, env: caches(),
		args: []string{
			vmm, "boot", "--kernel", u.kernel, "--memory", u.mib(s) + "M", "--rng=false",
			"--net", "tap=" + s.Endpoint.Tap + ",mac=" + s.Endpoint.MAC.String(),
			"--append", "quiet " + address(s.Endpoint),
		},
	}.start()
}

// Rebuild compiles the application, and links it with all that it stands on.
func (u *unikernel) Rebuild(ctx context.Context, dir string) (Runtime, error) {
	changed := *u
	changed.kernel = filepath.Join(dir, "kernel")
	return &changed, rebuild(ctx, u.again, "--again", changed.kernel)
}
