package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"vmm/doctor"
	"vmm/gdb"
	"vmm/machine"
	"vmm/socket"
)

// gdbFlags are the flags for a debugger.
type gdbFlags struct {
	address string
	wait    bool
	any     bool
}

func (f *gdbFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.address, "gdb", "", "let gdb in at this `address`: tcp:127.0.0.1:1234 (gdb: target remote :1234) or unix:PATH")
	fl.BoolVar(&f.wait, "wait-gdb", false, "hold the guest's first instruction until gdb has it go on")
	fl.BoolVar(&f.any, "gdb-any-address", false, "let --gdb listen where other hosts can reach it: whoever does owns the guest")
}

// serve lets gdb in, if the flags ask for it. kill ends the machine. What is
// returned tells gdb how the machine ended, and shuts it out.
func (f *gdbFlags) serve(m *machine.Machine, kill func(), log *slog.Logger) (end func(status int), err error) {
	if f.address == "" {
		return func(int) {}, nil
	}
	listener, err := f.listen()
	if err != nil {
		return nil, fmt.Errorf("gdb: %w", err)
	}
	probes, err := doctor.DebugProbes()
	if err != nil {
		listener.Close()
		return nil, err
	}
	if !probes.SingleStep {
		fmt.Fprintln(os.Stderr, "vmm: gdb: this host's KVM does not single-step guests: stepping, and going on from a breakpoint, will not work")
	}
	if f.wait {
		m.HoldForDebugger()
	}
	target := m.Debugger(machine.DebugAbility{Hardware: probes.HardwareBreakpoint, Watch: probes.Watchpoint, Breakpoint: probes.SoftwareBreakpoint}, kill)
	server := gdb.Serve(listener, target, log)
	if f.wait {
		fmt.Fprintf(os.Stderr, "vmm: waiting for gdb at %s\r\n", f.address)
	}
	return func(status int) {
		server.End(status)
		_ = server.Close()
	}, nil
}

// listen listens at the address.
func (f *gdbFlags) listen() (net.Listener, error) {
	kind, where, _ := strings.Cut(f.address, ":")
	switch kind {
	case "unix":
		if where == "" {
			return nil, fmt.Errorf("%q lacks a path; write unix:PATH", f.address)
		}
		return socket.Listen(where)
	case "tcp":
		addr, err := net.ResolveTCPAddr("tcp", where)
		if err != nil || addr.Port == 0 {
			return nil, fmt.Errorf("%q is not an address; write one such as tcp:127.0.0.1:1234", f.address)
		}
		if !addr.IP.IsLoopback() && !f.any {
			return nil, fmt.Errorf("%q can be reached from other hosts, and whoever does owns the guest: use tcp:127.0.0.1:%d, or --gdb-any-address if that is meant", f.address, addr.Port)
		}
		return net.ListenTCP("tcp", addr)
	}
	return nil, fmt.Errorf("%q is not an address; write tcp:127.0.0.1:PORT or unix:PATH", f.address)
}
