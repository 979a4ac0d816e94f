package machine

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"vmm/boot"
	"vmm/boot/acpi"
	"vmm/cpuid"
	"vmm/devices"
	"vmm/devices/i8042"
	"vmm/devices/pci"
	"vmm/devices/virtio/balloon"
	virtionet "vmm/devices/virtio/net"
	"vmm/disk"
	"vmm/kvm"
	"vmm/memory"
	"vmm/probe"
	"vmm/timeline"
)

// Machine is a virtual computer, put together by New.
type Machine struct {
	log    *slog.Logger
	vm     *kvm.VM
	memory *memory.Guest
	ports  devices.Bus
	mmio   devices.Bus
	cpus   []*cpu

	supported []cpuid.Leaf // what CPUID may say here

	pci         *pci.Root   // nil without
	routes      routes      // of interrupts, to the guest
	described   []acpi.Term // devices that the firmware tells of
	ecam        uint64      // where the firmware tells of PCI; 0 for nowhere
	addressBits uint        // of guest-physical addresses
	words       []string    // of the command line: devices, for a guest without ACPI

	transports []transport // of virtio devices
	quiesced   bool        // their workers are at rest; guarded by pausing

	doorbells doorbells      // of virtio devices
	names     map[string]int // how many virtio devices have a name, before its number

	config   Config                      // that the machine was made with
	stateful map[string]devices.Stateful // devices that are not virtio, by name
	timer    *pit
	disks    []disk.Image // that are written to
	images   []*os.File   // of all disks, to look at
	msrs     []uint32     // registers that make up a vCPU's state
	xstate   int          // size of a vCPU's extended state, in bytes

	linux bool       // the kernel is known to be Linux
	entry boot.Entry // how the guest begins, and what lies where then

	settle     func()         // see Settle
	closers    []func() error // in the order of construction
	parts      []part         // devices, which stop before those
	unfinished unfinished     // parts that are stopping

	console Console
	nets    []*virtionet.Device
	balloon *balloon.Device // nil without

	powerButton devices.Line
	keyboard    *i8042.Controller // nil without

	pausing sync.Mutex    // one hold or letGo at a time
	paused  atomic.Uint32 // the holds that there are
	wake    sync.Cond     // of paused, only, jobs and stopping, for processors at rest
	looking sync.Mutex    // one onCPU at a time

	stepping sync.Mutex  // one Step at a time
	debugged atomic.Bool // a debugger is attached

	timeline *timeline.Recorder // nil without
	watching watching           // for the timeline
	profile  *Profile           // nil without

	probes *probe.Set
	only   atomic.Pointer[kvm.VCPU] // the one that is alone in the guest; nil: all are

	heard    heard // towards the console
	warnings kept

	start   time.Time
	tracing tracing

	stopping atomic.Bool
	stopOnce sync.Once
	stopped  chan struct{} // closed by stop
	outcome  Outcome       // set before stopped is closed
	err      error         // likewise
}

// Console is what a person types to: the guest's serial port or its virtio
// console.
type Console interface {
	// Receive takes some of data, from its start, and says how much.
	Receive(data []byte) int
	// Ready has a value when Receive may take more than it did.
	Ready() <-chan struct{}
}

// Console is the machine's console.
func (m *Machine) Console() Console { return m.console }

// ResizeConsole tells the guest how large the terminal is, where the console has
// a way to.
func (m *Machine) ResizeConsole(columns, rows uint16) {
	if c, ok := m.console.(interface{ Resize(columns, rows uint16) }); ok {
		c.Resize(columns, rows)
	}
}

// Cmdline is the kernel's command line.
func (m *Machine) Cmdline() string { return m.entry.Cmdline }

// Linux reports whether the kernel is known to be Linux.
func (m *Machine) Linux() bool { return m.linux }

// Stats are counts of what happened, for reports after Run.
type Stats struct {
	Exits     uint64 `json:"exits"`     // from guest to vmm, by all vCPUs
	Unclaimed uint64 `json:"unclaimed"` // accesses to ports and memory without a device
}

// Stats may be called at any time.
func (m *Machine) Stats() Stats {
	s := Stats{Unclaimed: m.ports.Unclaimed() + m.mmio.Unclaimed()}
	for _, c := range m.cpus {
		s.Exits += c.exits.Load()
	}
	return s
}

// Run starts the processors and returns when the guest has ended or ctx is
// cancelled; by then none of them runs any more. The error is one of vmm or
// the host: a guest's crash is an Outcome. Run is called once.
//
// A vCPU that is blocked in a write to Config.Console ends only when that
// write does: who cancels ctx lets go of it too.
func (m *Machine) Run(ctx context.Context) (Outcome, error) {
	release := context.AfterFunc(ctx, func() { m.stop(Outcome{Kind: Stopped}, nil) })
	defer release()
	m.log.Debug("running")
	m.startDevices()
	var threads sync.WaitGroup
	for _, c := range m.cpus {
		c.running.Store(true)
		threads.Go(func() {
			defer c.running.Store(false)
			c.loop(m)
		})
	}
	stopSampling := m.startSampling()
	<-m.stopped
	stopSampling()
	// Each has either not yet looked at stopping, and is sent back to look,
	// or has seen it and is on its way out.
	m.kick()
	threads.Wait()
	if m.outcome.Kind == Stopped && m.err == nil {
		m.logProcessors()
	}
	return m.outcome, m.err
}

// stop ends the machine. The first call says how.
func (m *Machine) stop(o Outcome, err error) {
	m.stopOnce.Do(func() {
		m.outcome, m.err = o, err
		m.stopping.Store(true)
		close(m.stopped)
		m.wake.L.Lock() // whoever looked at stopping before waits by now
		defer m.wake.L.Unlock()
		m.wake.Broadcast()
	})
}
