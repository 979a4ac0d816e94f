package machine

import (
	"cmp"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"vmm/boot"
	"vmm/boot/acpi"
	"vmm/boot/mptable"
	"vmm/devices"
	"vmm/devices/boottimer"
	"vmm/devices/crtc"
	"vmm/devices/debugexit"
	"vmm/devices/i8042"
	"vmm/devices/postcode"
	"vmm/devices/power"
	"vmm/devices/pvpanic"
	"vmm/devices/rtc"
	"vmm/devices/serial"
	"vmm/kvm"
	"vmm/memory"
)

// Guest-physical addresses that KVM keeps for itself on Intel hosts, in the
// hole below 4 GiB. KVM api.rst §4.36, §4.40.
const (
	identityMapAddr = 0xfffb_c000 // one page
	tssAddr         = 0xfffb_d000 // three pages
)

// Ports and interrupts. Those below 0x100, the serial port and its interrupt
// are where the IBM PC put them.
const (
	portPIT          = 0x40
	portI8042Data    = 0x60
	portPITGate      = 0x61
	portI8042Command = 0x64
	portRTC          = 0x70
	portPOST         = 0x80
	portCRTC         = 0x3d4
	portCOM1         = 0x3f8
	portPvpanic      = 0x505
	portPower        = 0x600

	irqKeyboard    = 1
	irqPowerButton = 3 // where a PC has COM2
	irqCOM1        = 4
)

// required are the capabilities without which no machine can be built.
var required = []kvm.Cap{
	kvm.CapUserMemory, kvm.CapSetTSSAddr, kvm.CapSetIdentityMapAddr, kvm.CapIRQChip, kvm.CapPIT2,
	kvm.CapExtCPUID, kvm.CapImmediateExit,
}

// New puts together the machine that cfg describes, with its kernel loaded and
// its processors about to run. Close lets go of it.
func New(cfg Config) (_ *Machine, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Machine{log: cfg.Log, stopped: make(chan struct{}), start: time.Now(),
		timeline: cfg.Timeline, profile: cfg.Profile}
	m.wake.L = new(sync.Mutex)
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.log = slog.New(warnings{Handler: m.log.Handler(), kept: &m.warnings})
	m.heard.Writer = cfg.Console
	cfg.Console = &m.heard
	cfg.Nets = withAddresses(cfg.Nets)
	m.config = cfg
	defer func() {
		if err != nil {
			m.Close()
		}
	}()

	system, err := openKVM(cfg.CPUs)
	if err != nil {
		return nil, err
	}
	defer system.Close()
	// Where the host is itself a guest, this takes as long as half of the rest.
	supported := sync.OnceValues(system.SupportedCPUID)
	go supported()
	defer supported() // which needs system

	if err := m.addMemory(cfg); err != nil {
		return nil, err
	}
	var kernel *kernel
	if cfg.Saved == nil {
		kernel = m.load(cfg)
	}
	if err := m.addBoard(system); err != nil {
		return nil, err
	}
	if !cfg.DoorbellExits {
		m.doorbells.kvm = m.vm
	}
	if err := m.addInterrupts(); err != nil {
		return nil, err
	}
	if err := m.addDevices(cfg); err != nil {
		return nil, err
	}
	if err := m.addVirtio(cfg); err != nil {
		return nil, err
	}
	if m.msrs, err = system.MSRIndices(); err != nil {
		return nil, err
	}
	if err := m.addProcessors(supported, cfg); err != nil {
		return nil, err
	}
	if cfg.Saved != nil {
		m.linux = cfg.Saved.Spec.Linux
		return m, m.restore(&cfg.Saved.State)
	}
	if err := m.addFirmware(cfg.CPUs); err != nil {
		return nil, err
	}
	entry, err := m.enterKernel(kernel)
	if err != nil {
		return nil, err
	}
	m.entry, m.linux = entry, kernel.linux
	m.watchStart(cfg.Kernel)
	if err := m.cpus[0].enter(entry); err != nil {
		return nil, err
	}
	return m, nil
}

// openKVM opens /dev/kvm and makes sure that it has what a machine needs.
func openKVM(cpus int) (*kvm.System, error) {
	system, err := kvm.Open()
	if err != nil {
		return nil, err
	}
	err = system.Require(required...)
	if err == nil {
		var limit int
		if limit, err = system.MaxVCPUs(); err == nil && cpus > limit {
			err = fmt.Errorf("%d CPUs: this host's KVM allows at most %d", cpus, limit)
		}
	}
	if err != nil {
		system.Close()
		return nil, err
	}
	return system, nil
}

func (m *Machine) addMemory(cfg Config) error {
	if cfg.RAM != nil {
		if info, err := cfg.RAM.Stat(); err != nil || uint64(info.Size()) != cfg.Memory {
			return fmt.Errorf("memory: the snapshot does not have the %d bytes that the machine has (%v)", cfg.Memory, err)
		}
	}
	transparent := cfg.TransparentHugePages
	if transparent == "" && cfg.ShareKernel {
		transparent = memory.TransparentOff
	}
	ram, err := memory.New(memory.Layout(cfg.Memory), memory.Options{
		HugePages: cfg.HugePages, Transparent: transparent, Prefault: cfg.Prefault, File: cfg.RAM,
	})
	if err != nil {
		return err
	}
	m.memory = ram
	m.closers = append(m.closers, ram.Close)
	for _, r := range ram.Regions() {
		m.log.Debug("RAM", "guest", r.Start, "host", r.HostAddr(), "size", r.Size)
	}
	return nil
}

// addBoard makes the VM, with its memory.
func (m *Machine) addBoard(system *kvm.System) error {
	vm, err := system.CreateVM()
	if err != nil {
		return err
	}
	m.vm = vm
	m.closers = append(m.closers, vm.Close)
	if err := vm.SetIdentityMapAddr(identityMapAddr); err != nil {
		return err
	}
	if err := vm.SetTSSAddr(tssAddr); err != nil {
		return err
	}
	regions := m.memory.Regions()
	for i := range regions {
		if err := vm.SetMemory(uint32(i), 0, regions[i].Start, regions[i].Host()); err != nil {
			return err
		}
	}
	// The end of a VM waits until nobody reads the tables that its construction
	// replaced, which the kernel is in no hurry to find out. To delete memory
	// asks the same, urgently: a machine that lived for milliseconds ends 6 ms
	// sooner.
	m.closers = append(m.closers, func() error { return vm.DeleteMemory(0) })
	return nil
}

// addInterrupts adds the interrupt controllers. They come after memory: KVM,
// asked to change memory, waits until nobody reads what it changed before, and
// these change much. The other order costs 5 ms.
//
// The PICs are left with all of their inputs masked, as firmware does: a kernel
// that takes interrupts before it has set them up would take the serial port's
// as an exception.
func (m *Machine) addInterrupts() error {
	if err := m.vm.CreateIRQChip(); err != nil {
		return err
	}
	for _, chip := range []kvm.IRQChip{kvm.PICMaster, kvm.PICSlave} {
		s, err := m.vm.IRQChip(chip)
		if err != nil {
			return err
		}
		s.Data[picIMR] = 0xff
		if err := m.vm.SetIRQChip(s); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) addDevices(cfg Config) error {
	com1 := serial.New(m.line("COM1", irqCOM1), cfg.Console)
	m.console = com1
	m.timer = &pit{chip: m.vm, connect: func() error { return m.routes.apply(m.vm) }, log: m.log}
	m.powerButton = m.line("power button", irqPowerButton)
	keyboard := i8042.New(m.reset, nil)
	if cfg.Keyboard {
		keyboard = i8042.New(m.reset, m.line("keyboard", irqKeyboard))
		m.keyboard = keyboard
		m.described = append(m.described, acpi.Keyboard(portI8042Data, portI8042Command, irqKeyboard))
	}
	clock, screen := rtc.New(nil), crtc.New()
	m.stateful = map[string]devices.Stateful{"COM1": com1, "i8042": keyboard, "RTC": clock, "CRTC": screen}
	parts := []struct {
		base, size uint64
		name       string
		device     devices.Device
	}{
		{portCOM1, serial.Size, "COM1", com1},
		{portPIT, pitCountersSize, "PIT", m.timer.counters()},
		{portI8042Data, i8042.PortSize, "i8042", keyboard.Data()},
		{portPITGate, pitGateSize, "PIT gate", m.timer.gate()},
		{portI8042Command, i8042.PortSize, "i8042", keyboard.Command()},
		{portRTC, rtc.Size, "RTC", clock},
		{portPOST, postcode.Size, "POST", postcode.New(m.bootMarker)},
		{portCRTC, crtc.Size, "CRTC", screen},
		{portPvpanic, pvpanic.Size, "pvpanic", pvpanic.New(m.panicked)},
		{portPower, power.Size, "power", power.New(m.powerOff, m.reset)},
	}
	if cfg.DebugExit {
		parts = append(parts, struct {
			base, size uint64
			name       string
			device     devices.Device
		}{uint64(cmp.Or(cfg.DebugExitPort, DefaultDebugExitPort)), debugexit.Size, "debug-exit", debugexit.New(m.debugExit)})
	}
	for _, p := range parts {
		if err := m.ports.Insert(p.base, p.size, p.name, p.device); err != nil {
			return err
		}
	}
	if cfg.BootTimer {
		if err := m.mmio.Insert(boottimer.Addr, boottimer.Size, "boot-timer", boottimer.New(m.booted)); err != nil {
			return err
		}
	}
	m.described = append(m.described, acpi.Serial(portCOM1, irqCOM1), acpi.RTC(portRTC), acpi.Pvpanic(portPvpanic),
		acpi.PowerButton(irqPowerButton))
	return nil
}

// line is a new interrupt line, of a device with this name, to an input of the
// I/O APIC and PIC.
func (m *Machine) line(device string, gsi uint32) devices.Line {
	return &irqLine{vm: m.vm, gsi: gsi, log: m.log, device: device, tracing: &m.tracing}
}

// addProcessors adds the processors, which have what KVM supports on this host, or are
// as the guest knows them. What virtual machines need is left out unless cfg.Nested.
func (m *Machine) addProcessors(supported func() ([]kvm.CPUIDEntry, error), cfg Config) error {
	cpuid, err := supported()
	if err != nil {
		return err
	}
	m.supported = leaves(cpuid)
	if cfg.Saved != nil {
		if err := checkProcessors(cfg.Saved.State.Processors, cfg.CPUs, cpuid); err != nil {
			return err
		}
	}
	if m.xstate, err = m.vm.XStateSize(); err != nil {
		return err
	}
	scaling, err := m.vm.CheckExtension(kvm.CapTSCControl)
	if err != nil {
		return err
	}
	synced, err := m.vm.CheckExtension(kvm.CapSyncRegs)
	if err != nil {
		return err
	}
	deadline, err := m.vm.CheckExtension(kvm.CapTSCDeadlineTimer)
	if err != nil {
		return err
	}
	m.addressBits = addressBits(cpuid)
	if cpuid = withBrand(cpuid); !cfg.Nested {
		cpuid = withoutVirtualization(cpuid)
	}
	for id := range cfg.CPUs {
		vcpu, err := m.vm.CreateVCPU(id)
		if err != nil {
			return err
		}
		m.closers = append(m.closers, vcpu.Close)
		khz, err := vcpu.TSCKHz()
		if err != nil {
			khz = 0 // KVM does not tell: the guest measures it
		}
		c := &cpu{vcpu: vcpu, syncRegs: synced&1 != 0}
		if cfg.Saved != nil {
			err = c.restoreCPUID(&cfg.Saved.State.Processors[id], scaling != 0)
		} else {
			err = c.setUp(guestCPUID(cpuid, id, cfg.CPUs, khz, deadline != 0))
		}
		if err != nil {
			return err
		}
		m.cpus = append(m.cpus, c)
	}
	m.addProbes()
	return nil
}

// addFirmware describes the machine to the guest's operating system.
func (m *Machine) addFirmware(cpus int) error {
	if m.pci != nil {
		m.described = append(m.described, m.describePCI())
	}
	tables, err := acpi.Build(boot.FirmwareAddr, acpi.Config{
		CPUs:            cpus,
		SleepControl:    portPower + power.SleepControl,
		SleepStatus:     portPower + power.SleepStatus,
		SleepTypeS5:     power.TypeS5,
		Reset:           portPower + power.Reset,
		ResetValue:      power.ResetValue,
		CenturyRegister: rtc.Century,
		ECAM:            m.ecam,
		Keyboard:        m.keyboard != nil,
		Devices:         m.described,
	})
	if err != nil {
		return err
	}
	if _, err := m.memory.WriteAt(tables, boot.FirmwareAddr); err != nil {
		return err
	}
	return m.addMPTable(cpus, boot.FirmwareAddr+uint64(len(tables)))
}

// addMPTable describes processors and interrupts to a guest without ACPI, in
// firmware's memory from an address on.
func (m *Machine) addMPTable(cpus int, from uint64) error {
	table, err := mptable.Build(mptable.Config{CPUs: cpus, PCI: m.pci != nil})
	if err != nil {
		return err
	}
	at := (from + 15) &^ 15
	if end := uint64(boot.FirmwareAddr + boot.FirmwareSize); at+uint64(len(table)) > end {
		return fmt.Errorf("the firmware's tables have %d bytes more than there is room for; use fewer devices", at+uint64(len(table))-end)
	}
	if _, err := m.memory.WriteAt(table, int64(at)); err != nil {
		return err
	}
	// The area begins with its size.
	_, err = m.memory.WriteAt(mptable.Pointer(uint32(at)), boot.ExtendedBIOSAddr+mptable.PointerSize)
	return err
}

func (m *Machine) powerOff() { m.stop(Outcome{Kind: PoweredOff}, nil) }

// warmReset is where a PC's software leaves a note for the firmware before it
// resets the machine, and the value that asks for a warm start: the BIOS data
// area's reset flag.
const (
	warmResetAddr  = 0x472
	warmResetValue = 0x1234
)

// reset ends the machine. With DefaultCmdline, Linux sets the warm-reset flag
// only when it resets because of a panic.
func (m *Machine) reset() {
	if flag, err := m.memory.Uint16(warmResetAddr); err == nil && flag == warmResetValue {
		m.panicked(pvpanic.Panicked)
		return
	}
	m.stop(Outcome{Kind: Reset}, nil)
}

func (m *Machine) panicked(e pvpanic.Event) {
	m.log.Debug("pvpanic", "event", e)
	if e&pvpanic.Panicked != 0 {
		m.stop(Outcome{Kind: Crashed, Crash: &Crash{Reason: "the guest's kernel panicked"}}, nil)
	}
}

func (m *Machine) debugExit(value uint32) { m.stop(Outcome{Kind: DebugExit, Value: value}, nil) }

func (m *Machine) bootMarker(code byte) { m.log.Debug("boot marker", "code", code) }
