package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
)

// firecracker is the machine of vm.go under Firecracker.
type firecracker struct{ machine }

var _ Runtime = (*firecracker)(nil)

func (f *firecracker) Describe() Description {
	return Description{Name: "firecracker", Kind: KindVM, Link: LinkTap, Memory: f.memory, Confined: machineConfined(f.app)}
}

func (f *firecracker) Find() (string, error) {
	path, err := lookFor("firecracker", "see https://github.com/firecracker-microvm/firecracker/releases")
	if err != nil {
		return "", err
	}
	return versionOf(path, "--version"), f.find(f.Files()...)
}

func (f *firecracker) Files() []File { return f.files() }

func (f *firecracker) Start(s Spec) (*Instance, error) {
	mib, err := strconv.Atoi(f.mib(s))
	if err != nil {
		return nil, err
	}
	type object = map[string]any
	config, err := json.Marshal(object{
		"boot-source": object{
			"kernel_image_path": f.kernel, "initrd_path": f.initrd,
			"boot_args": "console=ttyS0 panic=-1 reboot=k pci=off i8042.nokbd i8042.noaux quiet " + address(s.Endpoint) + f.app.kernelWords(),
		},
		"drives":             []object{},
		"machine-config":     object{"vcpu_count": 1, "mem_size_mib": mib},
		"network-interfaces": []object{{"iface_id": "eth0", "guest_mac": s.Endpoint.MAC.String(), "host_dev_name": s.Endpoint.Tap}},
	})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.Dir, "machine.json")
	if err := os.WriteFile(path, config, 0o644); err != nil {
		return nil, err
	}
	return launch{
		spec: s, port: f.app.Port, inGroup: true, console: true, stop: terminate,
		args: []string{"firecracker", "--no-api", "--config-file", path},
	}.start()
}
