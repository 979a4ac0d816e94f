package runtime

import (
	"path/filepath"

	"vmm/run/protocol"
)

// Names are the runtimes, in the order of the report.
var Names = []string{
	"process", "runc", "crun", "podman", "docker", "runsc", "unikernel-container", "unikernel", "vm", "vm-shared",
	"vm-distro", "qemu-microvm", "firecracker", "cloud-hypervisor",
}

// Assets is the folder with what the instances are made from; guest-images/bench
// makes it.
type Assets string

// Program is the application's program.
func (a Assets) Program(app string) string { return filepath.Join(string(a), "app", app) }

// root is the folder with the files of the application's container.
func (a Assets) root(app App) string {
	if app.Root != "" {
		return app.Root
	}
	link := filepath.Join(string(a), "container", app.Name)
	if real, err := filepath.EvalSymlinks(link); err == nil {
		return real // runtimes refuse a link
	}
	return link
}

// initrd is the initial RAM disk with the application.
func (a Assets) initrd(app App) string {
	if app.Root != "" {
		return app.Root + ".cpio"
	}
	return filepath.Join(string(a), "initramfs", app.Name+".cpio")
}

// again is the script that compiles the application anew.
func (a Assets) again(what string) string { return filepath.Join(string(a), "again", what) }

// The memory of machines unless told otherwise: what a user would give them.
const (
	vmMemory        = 128 * mebibyte
	distroMemory    = 512 * mebibyte
	unikernelMemory = 32 * mebibyte
)

// New returns a runtime for an application; nil if there is none of that name. A
// memory of 0 is the runtime's own choice.
func New(name string, assets Assets, app App) Runtime {
	root := assets.root(app)
	linux := machine{
		app: app, memory: vmMemory, initrd: assets.initrd(app),
		kernel: filepath.Join(string(assets), "kernel", "vmlinux"),
	}
	switch name {
	case "process":
		return &process{app, assets.Program(app.Name)}
	case "runc":
		return runc(app, root)
	case "crun":
		return crun(app, root)
	case "runsc":
		return runsc(app, root)
	case "podman":
		return &podman{app, root}
	case "docker":
		return &docker{app, root}
	case "unikernel-container":
		return unikernelContainer(app, assets)
	case "unikernel":
		u := &unikernel{machine{app: app, memory: unikernelMemory}, assets.again("unikernel")}
		if app.Name == "rest-c" {
			u.kernel = filepath.Join(string(assets), "unikernel", app.Name+".elf")
		}
		return u
	case "vm":
		return &vm{linux, false}
	case "vm-shared":
		return &vm{linux, true}
	case "vm-distro":
		return &vmDistro{app: app, memory: distroMemory, disk: filepath.Join(string(assets), "debian", app.Name+".img")}
	case "qemu-microvm":
		return &qemu{linux}
	case "firecracker":
		return &firecracker{linux}
	case "cloud-hypervisor":
		return &cloudHypervisor{linux}
	}
	return nil
}

// BuiltIn are the applications that come with vmm: the REST service of the study,
// in two languages.
var BuiltIn = []App{
	{Name: "rest-go", Port: 8080, Path: "/", Sorts: true},
	{Name: "rest-c", Port: 8080, Path: "/", Sorts: true},
}

// kernelWords are what the kernel's command line says of a container image: its
// initial RAM disk says the rest. That of an application alone needs no words.
func (a App) kernelWords() string {
	if a.Root == "" {
		return ""
	}
	return " rdinit=/" + protocol.InitPath
}
