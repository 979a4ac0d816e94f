package runtime

// runc is the container runtime below Docker and containerd.
func runc(app App, root string) Runtime {
	return &oci{app: app, name: "runc", program: "runc", get: "Debian: apt-get install runc", root: root}
}
