package runtime

// vm is a machine of vmm's with a kernel for one application, and the application
// in an initial RAM disk.
type vm struct {
	machine
	shared bool // with other machines: the pages of both
}

var _ Runtime = (*vm)(nil)

func (v *vm) Describe() Description {
	name := "vm"
	if v.shared {
		name = "vm-shared"
	}
	return Description{Name: name, Kind: KindVM, Link: LinkTap, Memory: v.memory, Confined: machineConfined(v.app)}
}

func (v *vm) Find() (string, error) {
	vmm, err := vmmPath()
	if err != nil {
		return "", err
	}
	return versionOf(vmm, "version"), v.find(v.files()...)
}

func (v *vm) Files() []File { return v.files() }

func (v *vm) Start(s Spec) (*Instance, error) {
	vmm, err := vmmPath()
	if err != nil {
		return nil, err
	}
	args := []string{
		vmm, "boot", "--kernel", v.kernel, "--initrd", v.initrd, "--memory", v.mib(s) + "M", "--rng=false",
		"--net", "tap=" + s.Endpoint.Tap + ",mac=" + s.Endpoint.MAC.String(),
		"--append", "quiet " + address(s.Endpoint) + v.app.kernelWords(),
	}
	if v.shared {
		args = append(args, "--share-kernel")
	}
	return launch{spec: s, port: v.app.Port, inGroup: true, console: true, stop: terminate, env: caches(), args: args}.start()
}
