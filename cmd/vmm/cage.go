package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"vmm/broker"
	"vmm/cmd/internal/cli"
	"vmm/doctor"
	"vmm/sandbox"
	"vmm/timeline"
)

// own are files and devices that vmm needs when it can open none any more.
type own struct {
	host     *doctor.Prober
	trimming *trimming // nil: no memory is given back
}

// closeCage gives up all that the machine does not need, before the guest's first
// instruction. What was made until now stays open: the guest's disks, networks and
// sockets, files to be written at the end.
func (s *session) closeCage() error {
	s.machine.Settle()
	start := time.Now()
	s.openOwn()
	if s.flags.sandbox == sandbox.Off && defaultSandbox != sandbox.Off {
		s.cfg.Log.Warn("without the sandbox, a guest that breaks into vmm can do all that this user can")
	}
	needs, err := s.needs()
	if err != nil {
		return err
	}
	if s.caged() {
		refused, err := sandbox.Refusals()
		if err != nil {
			return err
		}
		go func() {
			select {
			case call := <-refused:
				s.end.refused(call)
			case <-s.end.over:
			}
		}()
	}
	cage, err := sandbox.Enter(s.flags.sandbox, needs)
	if err != nil {
		return err
	}
	s.cage.Store(cage)
	s.cfg.Log.Debug("sandbox closed", "took", time.Since(start))
	if s.flags.sandbox == sandbox.Auto {
		for _, missing := range sandbox.Missing() {
			s.cfg.Log.Warn("the sandbox lacks a layer: " + missing)
		}
	}
	return nil
}

// caged reports whether there will be a sandbox.
func (s *session) caged() bool {
	return s.flags.sandbox != sandbox.Off && sandbox.Host().Threads == nil
}

// startBroker starts the process that makes the guest's connections over vsock: vmm
// itself is not to connect to just any socket.
func (s *session) startBroker() error {
	if s.cfg.Vsock == nil || !s.caged() {
		return nil
	}
	b, err := broker.Start(s.cfg.Vsock.Path, string(s.flags.sandbox))
	if err != nil {
		return fmt.Errorf("vsock: %w", err)
	}
	s.later(func() {
		if err := b.Close(); err != nil {
			s.cfg.Log.Debug("the broker of vsock has ended", "error", err)
		}
	})
	config := *s.cfg.Vsock
	config.Dial = b.Dial
	s.cfg.Vsock = &config
	return nil
}

// newBroker is what startBroker starts.
func newBroker() *cobra.Command {
	return &cobra.Command{
		Use:    broker.Command,
		Hidden: true,
		Args:   cli.Usage(cli.Args(2, 2)),
		RunE: func(_ *cobra.Command, args []string) error {
			ready := os.NewFile(broker.ReadyFD, "ready")
			err := enterBroker(sandbox.Mode(args[1]))
			if err != nil {
				_, _ = ready.WriteString(err.Error()) // the one who waits says it
				return cli.ExitStatus(cli.Failed)
			}
			if _, err := ready.WriteString(broker.Ready); err != nil {
				return err
			}
			ready.Close()
			return broker.Serve(broker.LineFD, args[0])
		},
	}
}

func enterBroker(mode sandbox.Mode) error {
	refused, err := sandbox.Refusals()
	if err != nil {
		return err
	}
	go func() {
		fmt.Fprintf(cli.Err(), "vmm: vsock: %s\n", sandbox.Refusal(<-refused))
		os.Exit(cli.Failed)
	}()
	_, err = sandbox.Enter(mode, sandbox.Needs{Groups: sandbox.Dial})
	return err
}

// openOwn opens what vmm reads of the host while a machine runs.
func (s *session) openOwn() {
	if s.flags.verbose {
		// The log has local time, whose rules Go reads when it needs them.
		_, _ = time.Now().Zone()
	}
	s.own.host = doctor.NewProber()
	s.later(s.own.host.Close)
	var err error
	if s.own.trimming, err = newTrimming(); err != nil {
		s.cfg.Log.Debug("memory will not be given back", "error", err)
		return
	}
	s.later(func() { s.own.trimming.maps.Close() })
}

// needs are what this machine will do.
func (s *session) needs() (sandbox.Needs, error) {
	n := sandbox.Needs{Groups: sandbox.Machine}
	if len(s.cfg.Disks) > 0 {
		n.Groups |= sandbox.Disk
	}
	for _, c := range s.cfg.Nets {
		if c.User {
			n.Groups |= sandbox.UserNetwork
		} else {
			n.Groups |= sandbox.Tap
		}
	}
	for _, c := range s.cfg.Shares {
		n.Groups |= sandbox.Share
		n.Folders = append(n.Folders, sandbox.Folder{Path: c.Path, ReadOnly: c.ReadOnly})
	}
	if s.cfg.ShareKernel {
		// Others find the pages under /proc, by notes in the cache.
		n.Inspectable = true
		n.Groups |= sandbox.Remove
		n.Removes = append(n.Removes, s.cfg.Cache)
	}
	for _, path := range s.sockets() {
		n.Groups |= sandbox.Serve | sandbox.Remove
		if dir := filepath.Dir(path); !slices.Contains(n.Removes, dir) {
			n.Removes = append(n.Removes, dir)
		}
	}
	if s.flags.control != "" {
		n.Groups |= sandbox.Save
	}
	if s.flags.gdb.address.tcp != nil {
		n.Groups |= sandbox.Serve
	}
	if s.cfg.Vsock != nil {
		n.Groups |= sandbox.Broker
	}
	if addr := s.flags.timing.ready.TCP; addr != "" {
		n.Groups |= sandbox.DialTCP
		port, err := resolveReady(&s.flags.timing.ready)
		if err != nil {
			return n, err
		}
		n.Ports = append(n.Ports, port)
	}
	return n, nil
}

// sockets are the paths of the unix sockets of this machine.
func (s *session) sockets() []string {
	var all []string
	for _, path := range []string{s.flags.control, s.flags.gdb.address.path} {
		if path != "" {
			all = append(all, path)
		}
	}
	if s.cfg.Vsock != nil {
		all = append(all, s.cfg.Vsock.Path)
	}
	return all
}

// resolveReady makes the address of a condition one of numbers, while names can be
// looked up, and returns its port.
func resolveReady(c *timeline.Condition) (port uint16, err error) {
	addr, err := net.ResolveTCPAddr("tcp", c.TCP)
	if err != nil {
		return 0, fmt.Errorf("--ready tcp:%s: %w", c.TCP, err)
	}
	c.TCP = addr.String()
	return addr.AddrPort().Port(), nil
}
