package runtime

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
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

// maxWords is how many arguments, and how many variables, a kernel takes for its
// first process: MAX_INIT_ARGS and MAX_INIT_ENVS of init/main.c, less its own.
const maxWords = 30

// kernelWords are what the kernel's command line says of a container image's
// command: it is the first process, its variables are words, and its arguments
// follow two dashes. The init of an application alone needs no words. A kernel has
// no way to write a double quote (next_arg in lib/cmdline.c): with one, a word
// could become several.
func (a App) kernelWords() (string, error) {
	if a.Args == nil {
		return "", nil
	}
	if len(a.Args) > maxWords || len(a.Env) > maxWords {
		return "", fmt.Errorf("the image's command has %d words and %d variables; a guest's kernel takes %d of each", len(a.Args), len(a.Env), maxWords)
	}
	words := append([]string{"rdinit=" + a.Args[0]}, a.Env...)
	if len(a.Args) > 1 {
		words = append(append(words, "--"), a.Args[1:]...)
	}
	for i, w := range words {
		if strings.ContainsFunc(w, func(r rune) bool { return r == '"' || r < ' ' || r == 0x7f }) {
			return "", fmt.Errorf("the image's command or environment has a double quote or control character in %.80q, which a kernel's command line cannot pass on", w)
		}
		if w == "" || strings.ContainsFunc(w, unicode.IsSpace) || strings.ContainsRune(w, 0xa0) {
			words[i] = `"` + w + `"`
		}
	}
	return " " + strings.Join(words, " "), nil
}
