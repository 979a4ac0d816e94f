package runtime

// crun is the container runtime below Podman, in C.
func crun(app App, root string) Runtime {
	return &oci{app: app, name: "crun", program: "crun", get: "Debian: apt-get install crun", root: root}
}
