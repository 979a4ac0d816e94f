package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vmm/bench/runtime"
	"vmm/image"
)

// applications are those to measure. A container image is unpacked into scratch.
func (o *Options) applications(scratch string) ([]runtime.App, error) {
	if o.Image != "" {
		app, err := unpack(o.Image, o.Ready, scratch)
		return []runtime.App{app}, err
	}
	if len(o.Apps) == 0 {
		return runtime.BuiltIn, nil
	}
	var apps []runtime.App
	for _, name := range o.Apps {
		i := slices.IndexFunc(runtime.BuiltIn, func(a runtime.App) bool { return a.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("--app %q: there are rest-go and rest-c", name)
		}
		apps = append(apps, runtime.BuiltIn[i])
	}
	return apps, nil
}

// parseReady reads where an application is asked: http://:PORT/PATH.
func parseReady(s string) (port uint16, path string, err error) {
	bad := fmt.Errorf("--ready %q: write http://:PORT/PATH, such as http://:8080/", s)
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Hostname() != "" || u.RawQuery != "" {
		return 0, "", bad
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || n == 0 {
		return 0, "", bad
	}
	if path = u.EscapedPath(); path == "" {
		path = "/"
	}
	return uint16(n), path, nil
}

// unpack unpacks a container image, for containers as a folder, and beside it for
// machines as an initial RAM disk.
func unpack(from, ready, scratch string) (app runtime.App, err error) {
	app.Name = strings.TrimSuffix(filepath.Base(from), filepath.Ext(from))
	if app.Port, app.Path, err = parseReady(ready); err != nil {
		return app, err
	}
	container, err := image.OpenContainer(from)
	if err != nil {
		return app, fmt.Errorf("--image: %w", err)
	}
	defer container.Files.Close()
	app.Args, app.Env, app.Dir = container.Command, container.Env, container.Dir
	app.Root = filepath.Join(scratch, "image")
	if err := os.Mkdir(app.Root, 0o755); err != nil {
		return app, err
	}
	tar := exec.Command("tar", "-x", "--numeric-owner", "-C", app.Root)
	tar.Stdin = container.Files
	if out, err := tar.CombinedOutput(); err != nil {
		return app, fmt.Errorf("--image: unpack %s: %w: %s", from, err, out)
	}
	if len(app.Args) == 0 {
		return app, fmt.Errorf("--image: %s names no command to start", from)
	}
	if app.Args[0], err = commandPath(app); err != nil {
		return app, fmt.Errorf("--image: %w", err)
	}
	for _, dir := range []string{"proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(app.Root, dir), 0o755); err != nil {
			return app, err
		}
	}
	// A machine's first process has the console for input and output, if it is there.
	if err := unix.Mknod(filepath.Join(app.Root, "dev", "console"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1))); err != nil && !errors.Is(err, fs.ErrExist) {
		return app, fmt.Errorf("--image: /dev/console: %w", err)
	}
	pack := exec.Command("sh", "-c", `find . -mindepth 1 | cpio -o -H newc --quiet >"$0"`, app.Root+".cpio")
	pack.Dir = app.Root
	if out, err := pack.CombinedOutput(); err != nil {
		return app, fmt.Errorf("--image: pack an initial RAM disk: %w: %s", err, out)
	}
	return app, nil
}

// commandPath is the path of the image's command, in the image.
func commandPath(app runtime.App) (string, error) {
	name := app.Args[0]
	dirs := []string{""}
	switch {
	case path.IsAbs(name):
	case strings.Contains(name, "/"):
		dirs = []string{app.Dir}
	default:
		dirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
		for _, e := range app.Env {
			if list, ok := strings.CutPrefix(e, "PATH="); ok {
				dirs = strings.Split(list, ":")
			}
		}
	}
	for _, dir := range dirs {
		at := path.Join("/", dir, name)
		// A link is the image's to follow, not this host's.
		if info, err := os.Lstat(filepath.Join(app.Root, at)); err == nil && !info.IsDir() {
			return at, nil
		}
	}
	return "", fmt.Errorf("its command %q is not in it", name)
}
