package layers

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// steered are the folders with code that a guest, an image, a kernel's file or a peer
// on a socket can make allocate.
var steered = []string{"boot", "devices", "disk", "gdb", "memory", "netdev", "paging", "share", "snapshot", "uring"}

// bounded says, for each allocation in these whose size is computed, what bounds it:
// by file, and the size as the source has it. Sizes are checked before, as numbers of
// 64 bits. Who adds an allocation says so here.
var bounded = map[string]string{
	"boot/acpi/read.go: n":                                                    "maxTable",
	"boot/checksum.go: h.kernelOffset()":                                      "256 sectors: the count is a byte",
	"boot/cpio.go: n":                                                         "maxPath",
	"boot/elf.go: binary.Size(v)":                                             "the size of a structure of the source",
	"boot/elf.go: s.FileSize":                                                 "maxNotes",
	"boot/image.go: io.LimitReader(r, maxUnpacked+1)":                         "maxUnpacked",
	"boot/kallsyms/elf.go: h.Shnum":                                           "65535 sections: a field of 16 bits",
	"boot/kallsyms/elf.go: strings.Size":                                      "maxSymtab, and the file's size",
	"boot/kallsyms/elf.go: symbols.Size / elf.Sym64Size":                      "maxSymtab, and the file's size",
	"boot/kallsyms/find.go: n":                                                "maxSymbols, and the image, of which there are 4 bytes for each",
	"boot/lzop.go: l.sums(lzopAdler32D, lzopCRC32D)":                          "two sums of 4 bytes",
	"boot/lzop.go: packed":                                                    "the size of a block, and that lzopMaxBlock",
	"boot/lzop.go: size":                                                      "lzopMaxBlock",
	"boot/multiboot.go: size":                                                 "the size of a structure of the source",
	"boot/payload.go: int(packed.Size())":                                     "the file's size: a payload lies in it",
	"boot/payload.go: n":                                                      "maxUnpacked",
	"boot/relocate.go: size":                                                  "maxRelocations",
	"boot/zeropage.go: memory.PageSize":                                       "a constant",
	"devices/virtio/blk/blk.go: room":                                         "the sum of the queues' sizes, each at most 512",
	"devices/virtio/queue.go: n":                                              "MaxQueueSize",
	"devices/virtio/vsock/conn.go: rest":                                      "bufferSize, and maxBuffered for all connections",
	"disk/detect.go: int(block)":                                              "a constant",
	"disk/qcow2/compressed.go: im.clusterSize()":                              "2^maxClusterBits",
	"gdb/commands.go: 2 * got":                                                "maxPacket: what was read",
	"gdb/commands.go: hex.DecodedLen(len(data))":                              "half of what is there",
	"gdb/commands.go: s.target.Count()":                                       "the machine's processors",
	"memory/resident.go: (size + cell - 1) / cell":                            "the pages of a region of RAM: cells are pages at least",
	"memory/save.go: r.Size / PageSize":                                       "the pages of a region of RAM",
	"snapshot/read.go: memory.ChunkSize":                                      "a constant",
	"memory/scratch.go: n":                                                    "its callers', each of which is in this table",
	"netdev/user.go: said":                                                    "what a process of vmm's own has to say",
	"netdev/usernet/connections.go: size":                                     "constants: that of a fast connection, or of a slow one",
	"netdev/usernet/gateway.go: header.EthernetMinimumSize + 65535":           "a constant",
	"share/budget.go: workers":                                                "MaxWorkers",
	"share/ninep/xattr.go: n":                                                 "MaxAttribute, and the budget of the machine",
	"snapshot/read.go: io.LimitReader(f, most+1)":                             "most: a constant, or what the header says, which parseHeader has bounded",
	"uring/uring_unsafe.go: int(p.sqEntries) * int(unsafe.Sizeof(request{}))": "what the kernel says of a ring for one queue",
	"uring/uring_unsafe.go: int(size)":                                        "what the kernel says of a ring for one queue",
}

// allocates returns the arguments of a call that say how much memory it takes; nil
// for a call that takes none, or as much as it has been given.
func allocates(call *ast.CallExpr) []ast.Expr {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		if f.Name == "make" && len(call.Args) > 1 {
			return call.Args[1:]
		}
	case *ast.SelectorExpr:
		x, _ := f.X.(*ast.Ident)
		switch {
		case f.Sel.Name == "Grow" || f.Sel.Name == "Repeat" && x != nil && (x.Name == "bytes" || x.Name == "strings"):
			return call.Args[len(call.Args)-1:]
		case f.Sel.Name == "Mmap" && x != nil && x.Name == "unix" && len(call.Args) > 2:
			return call.Args[2:3]
		case f.Sel.Name == "Scratch" && x != nil && x.Name == "memory":
			return call.Args
		case f.Sel.Name == "ReadAll" && x != nil && x.Name == "io":
			return call.Args
		}
	}
	return nil
}

// fixed reports whether a size is one of the source: a number, a constant of a file,
// or the length of what is there already.
func fixed(size ast.Expr, constants map[string]bool) bool {
	switch e := size.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		return constants[e.Name]
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return ok && x.Name == "unix" // its constants
	case *ast.ParenExpr:
		return fixed(e.X, constants)
	case *ast.BinaryExpr:
		return fixed(e.X, constants) && fixed(e.Y, constants)
	case *ast.CallExpr:
		f, ok := e.Fun.(*ast.Ident)
		if ok && (f.Name == "len" || f.Name == "cap") {
			return true
		}
		if ok && (f.Name == "min" || f.Name == "int") { // one that is fixed bounds the others
			return slices.ContainsFunc(e.Args, func(a ast.Expr) bool { return fixed(a, constants) })
		}
	}
	return false
}

func TestSizesAreBounded(t *testing.T) {
	root := filepath.Join("..", "..")
	files := token.NewFileSet()
	packages := map[string][]*ast.File{} // by folder
	for _, dir := range steered {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "virtiotest") {
				return err
			}
			f, err := parser.ParseFile(files, path, nil, 0)
			packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for _, all := range packages {
		constants := map[string]bool{}
		for _, f := range all {
			ast.Inspect(f, func(n ast.Node) bool {
				if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
					for _, s := range d.Specs {
						for _, name := range s.(*ast.ValueSpec).Names {
							constants[name.Name] = true
						}
					}
				}
				return true
			})
		}
		for _, f := range all {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				for _, size := range allocates(call) {
					if fixed(size, constants) {
						continue
					}
					var text bytes.Buffer
					if err := printer.Fprint(&text, files, size); err != nil {
						t.Fatal(err)
					}
					at := files.Position(call.Pos())
					path, err := filepath.Rel(root, at.Filename)
					if err != nil {
						t.Fatal(err)
					}
					key := path + ": " + text.String()
					if seen[key] = true; bounded[key] == "" {
						t.Errorf("%s:%d: what bounds %s? Say so in this test:\n\t%q: \"\",", path, at.Line, &text, key)
					}
				}
				return true
			})
		}
	}
	for key := range bounded {
		if !seen[key] {
			t.Errorf("%q is bounded, but nothing like it is allocated", key)
		}
	}
}
