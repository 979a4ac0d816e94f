// Package layers checks the rules that keep the source tree in order: which
// package may import which, and where package unsafe may be used.
package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// may lists, for each package of the project, the other packages it may
// import directly. "devices/" stands for every package below devices.
// docs/architecture.md draws the same picture.
var may = map[string][]string{
	"vmm/boot":       {"vmm/boot/kallsyms", "vmm/memory"},
	"vmm/boot/":      {"vmm/memory"},
	"vmm/boot/cache": {"vmm/boot", "vmm/memory"},
	"vmm/cmd/": {
		"vmm/boot",
		"vmm/boot/",
		"vmm/broker",
		"vmm/cmd/internal/cli",
		"vmm/cmd/internal/start",
		"vmm/console",
		"vmm/control",
		"vmm/cpuid",
		"vmm/devices/virtio",
		"vmm/devices/virtio/",
		"vmm/disk",
		"vmm/doctor",
		"vmm/gdb",
		"vmm/machine",
		"vmm/memory",
		"vmm/netdev",
		"vmm/paging",
		"vmm/profile",
		"vmm/sandbox",
		"vmm/snapshot",
		"vmm/socket",
		"vmm/timeline",
		"vmm/tools",
		"vmm/trace",
		"vmm/untrusted",
	},
	"vmm/cmd/vmm-tools":             {"vmm/bench", "vmm/bench/", "vmm/cmd/internal/cli", "vmm/cmd/internal/start", "vmm/control", "vmm/explore", "vmm/image", "vmm/netdev", "vmm/netdev/usernet", "vmm/run", "vmm/sandbox", "vmm/tools", "vmm/untrusted"},
	"vmm/broker":                    {},
	"vmm/console":                   {},
	"vmm/control":                   {"vmm/socket", "vmm/untrusted"},
	"vmm/explore":                   {"vmm/control"},
	"vmm/cpuid":                     {},
	"vmm/devices":                   {},
	"vmm/devices/":                  {"vmm/devices", "vmm/memory"},
	"vmm/devices/virtio":            {"vmm/devices", "vmm/devices/pci", "vmm/memory"},
	"vmm/devices/virtio/":           {"vmm/devices", "vmm/devices/virtio", "vmm/memory"},
	"vmm/devices/virtio/blk":        {"vmm/devices/virtio", "vmm/memory", "vmm/uring"},
	"vmm/devices/virtio/virtiotest": {"vmm/devices", "vmm/devices/pci", "vmm/devices/virtio", "vmm/memory"},
	"vmm/devices/virtio/vsock":      {"vmm/devices", "vmm/devices/virtio", "vmm/memory", "vmm/socket"},
	"vmm/disk":                      {"vmm/disk/qcow2", "vmm/memory"},
	"vmm/disk/qcow2":                {},
	"vmm/uring":                     {"vmm/memory"},
	"vmm/doctor":                    {"vmm/kvm", "vmm/memory", "vmm/sandbox"},
	"vmm/examples":                  {},
	"vmm/examples/": {
		"vmm/boot", "vmm/devices", "vmm/devices/", "vmm/examples/internal/tiny", "vmm/kvm", "vmm/machine", "vmm/memory",
	},
	"vmm/gdb":               {"vmm/socket"},
	"vmm/guest-images/":     {},
	"vmm/guest-images/init": {"vmm/image/account", "vmm/run/protocol"},
	"vmm/image":             {"vmm/image/tree", "vmm/untrusted"},
	"vmm/image/account":     {},
	"vmm/image/tree":        {},
	"vmm/kvm":               {},
	"vmm/machine": {
		"vmm/boot",
		"vmm/boot/",
		"vmm/cpuid",
		"vmm/devices",
		"vmm/devices/",
		"vmm/disk",
		"vmm/gdb",
		"vmm/kvm",
		"vmm/memory",
		"vmm/netdev",
		"vmm/paging",
		"vmm/probe",
		"vmm/profile",
		"vmm/share",
		"vmm/share/",
		"vmm/snapshot",
		"vmm/timeline",
		"vmm/trace",
	},
	"vmm/memory":          {},
	"vmm/netdev":          {"vmm/memory", "vmm/sandbox", "vmm/tools"},
	"vmm/netdev/usernet":  {"vmm/memory", "vmm/netdev"},
	"vmm/paging":          {"vmm/memory"},
	"vmm/probe":           {"vmm/kvm", "vmm/memory"},
	"vmm/profile":         {},
	"vmm/run":             {"vmm/control", "vmm/image", "vmm/image/tree", "vmm/run/initrd", "vmm/run/protocol", "vmm/untrusted"},
	"vmm/run/protocol":    {},
	"vmm/run/initrd":      {"vmm/image/tree", "vmm/run/protocol"},
	"vmm/share":           {},
	"vmm/share/":          {"vmm/share"},
	"vmm/sandbox":         {},
	"vmm/snapshot":        {"vmm/memory"},
	"vmm/socket":          {},
	"vmm/timeline":        {"vmm/untrusted"},
	"vmm/tools":           {},
	"vmm/tools/toolstest": {},
	"vmm/trace":           {},
	"vmm/untrusted":       {},
	"vmm/bench":           {"vmm/bench/", "vmm/image", "vmm/image/account", "vmm/image/tree", "vmm/run/initrd", "vmm/run/protocol", "vmm/sandbox", "vmm/tools", "vmm/untrusted"},
	"vmm/bench/":          {"vmm/bench/", "vmm/image/tree", "vmm/run/protocol", "vmm/untrusted"},
}

// rule finds the entry of may for a package: its own, or that of the nearest
// folder above it.
func rule(pkg string) (allowed []string, ok bool) {
	if allowed, ok = may[pkg]; ok {
		return allowed, true
	}
	for dir := pkg; strings.Contains(dir, "/"); {
		dir = dir[:strings.LastIndex(dir, "/")]
		if allowed, ok = may[dir+"/"]; ok {
			return allowed, true
		}
	}
	return nil, false
}

func allows(allowed []string, pkg string) bool {
	for _, a := range allowed {
		if pkg == a || strings.HasSuffix(a, "/") && strings.HasPrefix(pkg, a) {
			return true
		}
	}
	return false
}

func TestImportDirection(t *testing.T) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "vmm/...")
	list.Dir = filepath.Join("..", "..")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	checked := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		pkg := words[0]
		if strings.HasPrefix(pkg, "vmm/tests/") {
			continue // tests look at everything
		}
		allowed, ok := rule(pkg)
		if !ok {
			t.Errorf("%s has no rule: say in this test what it may import", pkg)
			continue
		}
		for _, imp := range words[1:] {
			if strings.HasPrefix(imp, "vmm/") && !allows(allowed, imp) {
				t.Errorf("%s imports %s, which is not below it", pkg, imp)
			}
		}
		checked++
	}
	if checked < 5 {
		t.Errorf("only %d packages were checked", checked)
	}
}

// heavy are packages whose initializers, or size, would be felt in each start
// of a machine. They belong in vmm-tools; docs/architecture.md says why.
var heavy = []string{"net/http", "crypto/tls", "html/template", "gvisor.dev/gvisor/", "github.com/google/go-containerregistry/"}

func TestStartIsLight(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "vmm/cmd/vmm")
	list.Dir = filepath.Join("..", "..")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "vmm/machine") {
		t.Fatalf("%d packages, and none of them is vmm/machine", len(deps))
	}
	for _, dep := range deps {
		if allows(heavy, dep) {
			t.Errorf("vmm depends on %s", dep)
		}
	}
}

func TestUnsafeIsFenced(t *testing.T) {
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		dir := filepath.Dir(rel)
		if strings.HasSuffix(rel, "_unsafe.go") && (dir == "kvm" || dir == "memory" || dir == "sandbox" || dir == "uring") || strings.HasSuffix(rel, "_test.go") && dir == "kvm" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			if imp.Path.Value == `"unsafe"` {
				t.Errorf("%s imports unsafe: only *_unsafe.go of kvm, memory, sandbox and uring may", rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// onlyInTree are functions that would reach into the files of an image by their
// names, on which links of the image could lead elsewhere. What works on an image
// does it through package image/tree. Each exception says what its files are.
var onlyInTree = map[string]map[string]string{
	"filepath.WalkDir": {"bench/cgroup/cgroup.go": "the kernel's files of a cgroup"},
	"filepath.Walk":    {}, "os.Chmod": {}, "os.Chown": {}, "os.Lchown": {}, "os.Chtimes": {}, "os.Symlink": {}, "os.Link": {}, "os.CopyFS": {},
	"os.DirFS": {}, "unix.Mknod": {}, "unix.Mkfifo": {}, "unix.Lsetxattr": {}, "unix.Setxattr": {},
	"tar.NewReader": {"image/store.go": "the archive that an image comes in"},
	"tar.NewWriter": {},
}

// shells are programs to which a file's name could be more than a name.
var shells = map[string]map[string]string{
	`"sh"`:   {"image/image.go": "for tar and mke2fs, with a fixed script and folders of our own"},
	`"bash"`: {}, `"find"`: {}, `"cpio"`: {}, `"xargs"`: {}, `"rsync"`: {}, `"cp"`: {},
}

func TestUnpackedTreesHaveOneOwner(t *testing.T) {
	root := filepath.Join("..", "..")
	used := map[string]bool{}
	for _, top := range []string{"image", "bench", "cmd/vmm-tools"} {
		eachGoFile(t, filepath.Join(root, top), func(path string, f *ast.File) {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(rel, "image/tree/") {
				return
			}
			ast.Inspect(f, func(n ast.Node) bool {
				name, exceptions := "", map[string]string(nil)
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if pkg, ok := n.X.(*ast.Ident); ok {
						name = pkg.Name + "." + n.Sel.Name
						exceptions = onlyInTree[name]
					}
				case *ast.BasicLit:
					name, exceptions = n.Value, shells[n.Value]
				}
				if exceptions == nil {
					return true
				}
				if exceptions[rel] == "" {
					t.Errorf("%s uses %s: files of an image are for package image/tree alone", rel, name)
				}
				used[rel] = true
				return true
			})
		})
	}
	for _, list := range []map[string]map[string]string{onlyInTree, shells} {
		for name, exceptions := range list {
			for file := range exceptions {
				if !used[file] {
					t.Errorf("%s does not use %s any more: remove the exception", file, name)
				}
			}
		}
	}
}

// eachGoFile parses the files below a folder that are no tests.
func eachGoFile(t *testing.T, dir string, with func(path string, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/testdata/") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err == nil {
			with(path, f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// rawOutput are the files of commands that use standard output or standard error
// themselves, and not through cli.Out and cli.Err, which keep escapes of others from
// the terminal.
var rawOutput = map[string]string{
	"cmd/internal/cli/cli.go":   "makes Out and Err",
	"cmd/vmm/session.go":        "the guest's console, which is the guest's own",
	"cmd/vmm/log.go":            "compares the two",
	"cmd/vmm/top.go":            "clears the screen",
	"cmd/vmm/trace.go":          "wraps them itself, for a terminal in raw mode",
	"cmd/vmm-tools/explore.go":  "hands them to the machine that it starts",
	"cmd/vmm-tools/machines.go": "they are the streams of the guest's program, which is the user's own",
	"cmd/vmm-tools/run.go":      "they are the streams of the guest's program, which is the user's own",
	"bench/namespace.go":        "hands them to the process inside",
	"bench/progress.go":         "makes stderr, and draws a bar",
}

func TestOutputHasOnePrinter(t *testing.T) {
	root := filepath.Join("..", "..")
	used := map[string]bool{}
	for _, top := range []string{"cmd", "bench", "image", "explore"} {
		eachGoFile(t, filepath.Join(root, top), func(path string, f *ast.File) {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				name := ""
				if pkg, ok := s.X.(*ast.Ident); ok {
					name = pkg.Name + "." + s.Sel.Name
				}
				switch name {
				case "os.Stdout", "os.Stderr", "fmt.Print", "fmt.Println", "fmt.Printf":
					if used[rel] = true; rawOutput[rel] == "" {
						t.Errorf("%s uses %s: write to cli.Out or cli.Err", rel, name)
					}
				}
				return true
			})
		})
	}
	for file := range rawOutput {
		if !used[file] {
			t.Errorf("%s uses neither any more: remove the exception", file)
		}
	}
}
