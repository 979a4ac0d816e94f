package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"vmm/boot"
	"vmm/boot/kallsyms"
	"vmm/cmd/internal/cli"
	"vmm/control"
	"vmm/machine"
	"vmm/trace"
	"vmm/untrusted"
)

// liveSymbols are the symbols of the guest's kernel, looked for when they are
// needed, and again for as long as there is no kernel.
type liveSymbols struct {
	ctx context.Context // of the run
	m   *machine.Machine

	mu    sync.Mutex
	table *kallsyms.Table
	next  time.Time // when to look again
	tries int
}

var _ trace.Symbols = (*liveSymbols)(nil)

// Looking takes a processor of the host for a moment, so it is not done often.
const (
	symbolsEvery = time.Second
	symbolsTries = 30
)

// kernelHalf is where the upper half of the address space begins, the kernel's.
const kernelHalf = 1 << 63

// Symbol implements trace.Symbols. Where it begins, the kernel runs at its physical
// addresses: those have names, too.
func (s *liveSymbols) Symbol(addr uint64) (string, uint64) {
	if addr < kernelHalf {
		virtual, ok := s.m.KernelVirtual(addr)
		if !ok {
			return "", 0
		}
		addr = virtual
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil && s.tries < symbolsTries && time.Now().After(s.next) {
		s.tries++
		// Without symbols there are addresses.
		s.table, _ = s.m.KernelSymbols(s.ctx)
		s.next = time.Now().Add(symbolsEvery)
	}
	if s.table == nil {
		return "", 0
	}
	return function(s.table, addr)
}

// userSymbols are the symbols for code in user mode, whose addresses in the lower
// half are not the kernel's.
type userSymbols struct{ trace.Symbols }

// Symbol implements trace.Symbols.
func (s userSymbols) Symbol(addr uint64) (string, uint64) {
	if addr < kernelHalf {
		return "", 0
	}
	return s.Symbols.Symbol(addr)
}

// function is the function that an address lies in, "" for none: modules, say,
// lie behind the kernel and are not in its table.
func function(t *kallsyms.Table, addr uint64) (string, uint64) {
	const longest = 1 << 20
	s, off, ok := t.At(addr)
	if !ok || off > longest || !strings.ContainsRune("tTwW", rune(s.Type)) {
		return "", 0
	}
	return untrusted.Text(s.Name), off
}

func newInspectSymbols() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "symbols PATH|FILE [NAME|ADDRESS]",
		Short: "Show the symbols of a Linux kernel",
		Long: `List the symbols of the kernel that runs in the machine that was started with
--control PATH, at the addresses that it has there, or of a kernel in a FILE, a
bzImage or a vmlinux, at the addresses that it is linked to have. They come out of
the kernel's own tables (CONFIG_KALLSYMS), so that no System.map and no debugging
information is needed.

With a NAME or an ADDRESS, only what has that name, or lies there. With --elf, the
symbols are written to an ELF file, from which gdb takes names: function names and
addresses, no types and no lines; those are in the packages of debugging information
of a distribution.`,
		Example: `  vmm inspect symbols vm.sock start_kernel
  vmm inspect symbols /boot/vmlinuz-6.1.0 0xffffffff81000123
  vmm inspect symbols vm.sock --elf guest.elf && gdb guest.elf -ex 'target remote vm.gdb'`,
		Args: cli.Usage(cli.Args(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			table, err := symbolsOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if out != "" {
				return writeELF(out, table)
			}
			if len(args) == 1 {
				return list(cmd.OutOrStdout(), table)
			}
			text, err := lookUp(table, args[1])
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&out, "elf", "", "write them to this `file`, for gdb")
	return cmd
}

// symbolsOf are the symbols of a running machine's kernel, or of a file's.
func symbolsOf(ctx context.Context, path string) (*kallsyms.Table, error) {
	if !isSocket(path) {
		return boot.Symbols(ctx, path)
	}
	elf, err := ask[[]byte](path, control.Request{What: inspectSymbols})
	if err != nil {
		return nil, err
	}
	return kallsyms.FromELF(bytes.NewReader(elf), int64(len(elf)))
}

// symbols is the answer to inspectSymbols: an ELF file.
func (c controlled) symbols() ([]byte, error) {
	table, err := c.KernelSymbols(c.ctx)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = table.WriteELF(&b)
	return b.Bytes(), err
}

func list(w io.Writer, t *kallsyms.Table) error {
	b := bufio.NewWriter(w)
	for s := range t.All() {
		fmt.Fprintf(b, "%016x %c %s\n", s.Addr, s.Type, untrusted.Text(s.Name))
	}
	return b.Flush()
}

// lookUp finds a symbol by name, or by an address in it.
func lookUp(t *kallsyms.Table, what string) (string, error) {
	if addr, err := strconv.ParseUint(what, 0, 64); err == nil {
		if s, off, ok := t.At(addr); ok {
			return fmt.Sprintf("%016x %c %s+%#x", s.Addr, s.Type, untrusted.Text(s.Name), off), nil
		}
		return "", fmt.Errorf("no symbol is at or below %#x", addr)
	}
	addr, ok := t.Lookup(what)
	if !ok {
		return "", fmt.Errorf("the kernel has no symbol %q", what)
	}
	return fmt.Sprintf("%016x %s", addr, untrusted.Text(what)), nil
}

// writeELF writes the symbols to a file.
func writeELF(path string, t *kallsyms.Table) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("symbols: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return t.WriteELF(f)
}
