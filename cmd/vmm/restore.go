package main

import (
	"github.com/spf13/cobra"

	"vmm/cmd/internal/cli"
	"vmm/devices/virtio/vsock"
	"vmm/machine"
	"vmm/snapshot"
)

func newRestore() *cobra.Command {
	f := bootFlags{sandbox: defaultSandbox}
	var ends machine.Ends
	cmd := &cobra.Command{
		Use:   "restore DIR",
		Short: "Go on with a virtual machine that was saved",
		Long: `Go on with the virtual machine that 'vmm ctl PATH snapshot DIR' has saved, with this
terminal as its console. Its memory is read as the guest touches it, and what the
guest changes stays in vmm's memory: any number of machines may go on from one
snapshot, which must not be changed meanwhile.

The guest sees the devices that it had. What stands behind them on the host is given
anew, in the order and by the tags that they had, for nothing that a snapshot names
is opened unasked: give --disk, --net, --share and --vsock as to 'vmm boot', or
--as-saved for all that is not given. Connections through a vsock device or a
network of the machine's own do not survive; files that the guest has open in a
share are opened anew.

Exit status: as that of 'vmm boot'.`,
		Example: `  vmm boot --kernel vmlinuz --initrd initrd.cpio --control vm.sock
  vmm ctl vm.sock snapshot --stop vm.snapshot
  vmm restore vm.snapshot
  vmm restore vm.snapshot --disk path=copy.img --net user,hostfwd=tcp:127.0.0.1:8080-:80 --control vm2.sock
  vmm restore vm.snapshot --as-saved --paused --control vm2.sock`,
		Args: cli.Usage(cli.Args(1, 1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return f.restore(args[0], ends)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.Var(&listFlag[machine.Disk]{&ends.Disks, parseDisk, "disk"}, "disk", "what stands behind the next disk: path=FILE[,cache=writeback|none][,iops=N][,bw=BYTES]; may be repeated")
	fl.Var(&listFlag[machine.Net]{&ends.Nets, parseNet, "net"}, "net", "what the next network card is connected to: user[,hostfwd=...]... or tap=NAME, as with 'vmm boot'; may be repeated")
	fl.Var(&listFlag[machine.Share]{&ends.Shares, parseShare, "share"}, "share", "the folder behind a share: path=DIR,tag=NAME; may be repeated")
	fl.Var(&deviceFlag[vsock.Config]{&ends.Vsock, parseVsock, "vsock"}, "vsock", "the socket of the vsock device: cid=N,uds=PATH; the guest learns of another CID")
	fl.BoolVar(&ends.AsSaved, "as-saved", false, "use the files, networks and sockets that the snapshot names, where no flag names others")
	fl.BoolVar(&ends.Changed, "changed-disks", false, "use disks though their images have changed since: only when they are copies of what they were")
	fl.StringVar(&f.control, "control", "", "`path` of a unix socket for 'vmm ctl'")
	fl.BoolVar(&f.paused, "paused", false, "hold the guest until 'vmm ctl' has it go on")
	f.addSandbox(fl)
	fl.DurationVar(&f.timeout, "timeout", 0, "end the machine after this `time`, such as 30s (default never)")
	f.trace.register(fl)
	f.timing.addReady(fl)
	f.timing.addProfile(fl)
	f.gdb.register(fl)
	fl.BoolVar(&f.json, "json", false, "say how the machine ended as JSON on standard error")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "log what vmm does on standard error")
	cli.GroupFlags(cmd,
		cli.FlagGroup{Title: "The host's ends of devices:", Flags: []string{"disk", "net", "share", "vsock", "as-saved", "changed-disks"}},
		cli.FlagGroup{Title: "Control:", Flags: []string{"control", "paused", "sandbox", "timeout"}},
		cli.FlagGroup{Title: "Watching and debugging:", Flags: []string{"trace", "trace-format", "trace-filter", "trace-doorbells",
			"ready", "profile", "profile-rate", "gdb", "wait-gdb", "gdb-any-address", "json", "verbose"}})
	return cmd
}

// restore runs the machine of a snapshot.
func (f *bootFlags) restore(dir string, ends machine.Ends) error {
	s, saved, err := openSnapshot(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	f.debugExit = debugExitFlag{on: saved.Spec.DebugExit, port: saved.Spec.DebugExitPort}
	f.timing.bootTimer = saved.Spec.BootTimer
	return f.run(func() (machine.Config, error) {
		cfg, err := saved.Config(ends)
		cfg.RAM, cfg.DoorbellExits = s.Memory, f.trace.doorbells
		return cfg, err
	})
}

// openSnapshot opens a snapshot and reads its description.
func openSnapshot(dir string) (*snapshot.Snapshot, *machine.Saved, error) {
	s, err := snapshot.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	var saved machine.Saved
	if err := s.Describe(&saved); err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, &saved, nil
}
