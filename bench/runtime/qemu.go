package runtime

// qemu is the machine of vm.go under QEMU's smallest machine, microvm.
type qemu struct{ machine }

var _ Runtime = (*qemu)(nil)

const qemuProgram = "qemu-system-x86_64"

func (q *qemu) Describe() Description {
	return Description{Name: "qemu-microvm", Kind: KindVM, Link: LinkTap, Memory: q.memory, Confined: machineConfined(q.app)}
}

func (q *qemu) Find() (string, error) {
	path, err := lookFor(qemuProgram, "Debian: apt-get install qemu-system-x86")
	if err != nil {
		return "", err
	}
	return versionOf(path, "--version"), q.find(q.Files()...)
}

func (q *qemu) Files() []File { return q.files() }

func (q *qemu) Start(s Spec) (*Instance, error) {
	return launch{
		spec: s, port: q.app.Port, inGroup: true, console: true, stop: terminate,
		args: []string{
			qemuProgram, "-M", "microvm", "-accel", "kvm", "-cpu", "host", "-m", q.mib(s), "-smp", "1",
			"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
			"-kernel", q.kernel, "-initrd", q.initrd,
			"-netdev", "tap,id=net0,script=no,downscript=no,ifname=" + s.Endpoint.Tap,
			"-global", "virtio-mmio.force-legacy=false", "-device", "virtio-net-device,netdev=net0,mac=" + s.Endpoint.MAC.String(),
			"-append", "console=ttyS0 panic=-1 reboot=t quiet " + address(s.Endpoint) + q.app.kernelWords(),
		},
	}.start()
}
