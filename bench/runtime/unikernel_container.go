package runtime

// unikernelContainer is what a unikernel is among containers: one program, linked
// statically, and nothing beside it; no capabilities, and of the system calls only
// those that it makes.
func unikernelContainer(app App, root string) Runtime {
	return &oci{app: app, name: "unikernel-container", program: "crun", get: "Debian: apt-get install crun", root: root, tiny: true}
}
