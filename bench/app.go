package bench

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"vmm/bench/runtime"
	"vmm/image"
	"vmm/image/tree"
	"vmm/run/initrd"
	"vmm/run/protocol"
	"vmm/tools"
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
	defer container.Close()
	app.Args, app.Env, app.Dir = container.Command, container.Env, container.Dir
	app.Root = filepath.Join(scratch, "image")
	files, err := tree.Make(app.Root)
	if err != nil {
		return app, err
	}
	defer files.Close()
	if err := unpackInto(files, container, &app); err != nil {
		return app, fmt.Errorf("--image: %s: %w", from, err)
	}
	return app, nil
}

func unpackInto(files *tree.Tree, container *image.Container, app *runtime.App) error {
	err := container.Unpack(files, func() error { return nil })
	if err != nil {
		return err
	}
	if len(app.Args) == 0 {
		return errors.New("it names no command to start")
	}
	if app.Args[0], err = commandPath(files, *app); err != nil {
		return err
	}
	if app.User, err = userOf(files, container.User); err != nil {
		return err
	}
	for _, dir := range []string{"proc", "sys", "dev"} {
		if err := files.MakeMountPoint(dir); err != nil {
			return err
		}
	}
	if _, err := files.Finish(); err != nil {
		return err
	}
	out, err := os.OpenFile(app.Root+".cpio", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(writeInitrd(out, files, app), out.Close()); err != nil {
		return fmt.Errorf("an initial RAM disk of it: %w", err)
	}
	return nil
}

// writeInitrd writes the image's files and, behind them, the first process of 'vmm
// run' with what it is to start.
func writeInitrd(to io.Writer, files *tree.Tree, app *runtime.App) error {
	if err := files.WriteInitrd(to); err != nil {
		return err
	}
	init, err := tools.Beside(tools.Init)
	if err != nil {
		return err
	}
	p := protocol.Process{Args: app.Args, Env: app.Env, Dir: app.Dir, User: app.User.String(), AllCapabilities: true}
	for _, g := range app.User.Groups {
		p.Groups = append(p.Groups, strconv.FormatUint(uint64(g), 10))
	}
	if p.Dir != "" {
		p.Dir = path.Join("/", p.Dir)
	}
	return initrd.Write(to, &protocol.Spec{Version: protocol.Version, Process: p}, init, "")
}

// commandPath is the path of the image's command, in the image.
func commandPath(files *tree.Tree, app runtime.App) (string, error) {
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
		if at := path.Join("/", dir, name); files.IsFile(at) {
			return at, nil
		}
	}
	return "", fmt.Errorf("its command %q is not in it", name)
}
