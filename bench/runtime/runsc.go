package runtime

// runsc is gVisor: a kernel in Go, for one container, as a process of the host.
// It too follows the OCI specification.
func runsc(app App, root string) Runtime {
	return &oci{
		app: app, name: "runsc", program: "runsc", get: "see https://gvisor.dev/docs/user_guide/install/",
		root: root, kernel: true, flags: []string{"--network=sandbox", "--platform=systrap"},
	}
}
