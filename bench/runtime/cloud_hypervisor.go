package runtime

// cloudHypervisor is the machine of vm.go under Cloud Hypervisor.
type cloudHypervisor struct{ machine }

var _ Runtime = (*cloudHypervisor)(nil)

func (c *cloudHypervisor) Describe() Description {
	return Description{Name: "cloud-hypervisor", Kind: KindVM, Link: LinkTap, Memory: c.memory, Confined: machineConfined(c.app)}
}

func (c *cloudHypervisor) Find() (string, error) {
	path, err := lookFor("cloud-hypervisor", "see https://github.com/cloud-hypervisor/cloud-hypervisor/releases")
	if err != nil {
		return "", err
	}
	return versionOf(path, "--version"), c.find(c.Files()...)
}

func (c *cloudHypervisor) Files() []File { return c.files() }

func (c *cloudHypervisor) Start(s Spec) (*Instance, error) {
	return launch{
		spec: s, port: c.app.Port, inGroup: true, console: true, stop: terminate,
		args: []string{
			"cloud-hypervisor", "--kernel", c.kernel, "--initramfs", c.initrd, "--cpus", "boot=1", "--memory", "size=" + c.mib(s) + "M",
			"--net", "tap=" + s.Endpoint.Tap + ",mac=" + s.Endpoint.MAC.String(), "--serial", "tty", "--console", "off",
			"--cmdline", "console=ttyS0 panic=-1 quiet " + address(s.Endpoint) + c.app.kernelWords(),
		},
	}.start()
}
