package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/pflag"

	"vmm/doctor"
	"vmm/gdb"
	"vmm/machine"
	"vmm/socket"
)

// gdbFlags are the flags for a debugger.
type gdbFlags struct {
	address gdbAddress
	wait    bool
	any     bool
}

func (f *gdbFlags) register(fl *pflag.FlagSet) {
	fl.Var(&f.address, "gdb", "let gdb debug the guest through a unix socket at this path (gdb: target remote PATH);\ntcp:127.0.0.1:1234 is a TCP port instead, open to every program of this host")
	fl.BoolVar(&f.wait, "wait-gdb", false, "hold the guest's first instruction until gdb has it go on")
	fl.BoolVar(&f.any, "gdb-any-address", false, "let --gdb listen where other hosts can reach it: whoever does owns the guest")
}

// gdbAddress is where to listen for gdb.
type gdbAddress struct {
	path string       // of a unix socket
	tcp  *net.TCPAddr // nil for none
}

func (a *gdbAddress) Type() string { return "path" }
func (a *gdbAddress) String() string {
	if a.tcp != nil {
		return "tcp:" + a.tcp.String()
	}
	return a.path
}

// Set implements pflag.Value.
func (a *gdbAddress) Set(v string) (err error) {
	*a = gdbAddress{}
	kind, where, colon := strings.Cut(v, ":")
	switch {
	case colon && kind == "unix":
		a.path = where
	case colon && kind == "tcp":
		if a.tcp, err = net.ResolveTCPAddr("tcp", where); err != nil || a.tcp.Port == 0 {
			return errors.New("not an address; write one such as tcp:127.0.0.1:1234")
		}
		return nil
	case colon && !strings.Contains(kind, "/"): // localhost:1234
		return errors.New("write tcp:127.0.0.1:PORT, or unix:PATH where a path has a colon")
	default:
		a.path = v
	}
	if a.path == "" {
		return errors.New("it lacks the path of a unix socket")
	}
	return nil
}

func (a *gdbAddress) given() bool { return a.path != "" || a.tcp != nil }

// loopback reports whether a TCP port is to be of this host alone.
func (a *gdbAddress) loopback() bool { return a.tcp.IP.IsLoopback() }

// check looks for flags that make no sense together.
func (f *gdbFlags) check() error {
	switch {
	case !f.address.given() && f.wait:
		return errors.New("--wait-gdb needs --gdb")
	case !f.address.given() && f.any:
		return errors.New("--gdb-any-address needs --gdb")
	case f.address.tcp != nil && !f.address.loopback() && !f.any:
		return fmt.Errorf("--gdb %s can be reached from other hosts, and whoever does owns the guest: use --gdb PATH or tcp:127.0.0.1:%d, or --gdb-any-address if that is meant", &f.address, f.address.tcp.Port)
	}
	return nil
}

// serve lets gdb in, if the flags ask for it. kill ends the machine. What is
// returned tells gdb how the machine ended, and shuts it out.
func (f *gdbFlags) serve(m *machine.Machine, kill func(), log *slog.Logger, messages io.Writer) (end func(status int), err error) {
	if !f.address.given() {
		return func(int) {}, nil
	}
	listener, err := f.listen()
	if err != nil {
		return nil, fmt.Errorf("gdb: %w", err)
	}
	if f.address.tcp != nil {
		fmt.Fprintln(messages, f.warning())
	}
	probes, err := doctor.DebugProbes()
	if err != nil {
		listener.Close()
		return nil, err
	}
	if !probes.SingleStep {
		fmt.Fprintln(messages, "vmm: gdb: this host's KVM does not single-step guests: stepping, and going on from a breakpoint, will not work")
	}
	if f.wait {
		m.HoldForDebugger()
	}
	target := m.Debugger(machine.DebugAbility{Hardware: probes.HardwareBreakpoint, Watch: probes.Watchpoint, Breakpoint: probes.SoftwareBreakpoint}, kill)
	server := gdb.Serve(listener, target, log)
	if f.wait {
		fmt.Fprintf(messages, "vmm: waiting for gdb at %s\n", &f.address)
	}
	return func(status int) {
		server.End(status)
		_ = server.Close()
	}, nil
}

// warning says who a TCP port lets in.
func (f *gdbFlags) warning() string {
	who := "every user and program of this host"
	if !f.address.loopback() {
		who = "whoever reaches this host over the network"
	}
	return fmt.Sprintf("vmm: gdb: %s can connect to %s, which asks for no password, and then owns the guest; a unix socket, --gdb PATH, is yours alone", who, &f.address)
}

// listen listens at the address.
func (f *gdbFlags) listen() (net.Listener, error) {
	if f.address.tcp != nil {
		return net.ListenTCP("tcp", f.address.tcp)
	}
	return socket.Listen(f.address.path)
}
