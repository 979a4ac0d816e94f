package runtime

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// process is the application as a program of the host: what a start costs at
// least.
type process struct {
	app     App
	program string
}

var _ Runtime = (*process)(nil)

func (p *process) Describe() Description {
	return Description{Name: "process", Kind: KindProcess, Link: LinkHost, Confined: "root of the host, all system calls open"}
}

func (p *process) Find() (string, error) {
	if p.app.Root != "" {
		return "", Missing{"a container image is no program of this host", "give --app for this runtime"}
	}
	if err := needFile(p.program, "the application "+p.app.Name); err != nil {
		return "", err
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + string(trimNewline(release)), err
}

func (p *process) Files() []File { return []File{{"application", p.program}} }

func (p *process) Start(s Spec) (*Instance, error) {
	if s.Memory > 0 {
		if err := s.Group.Limit(s.Memory); err != nil {
			return nil, err
		}
	}
	return launch{
		spec: s, port: s.Port, inGroup: true,
		args: []string{p.program, strconv.Itoa(int(s.Port))},
		stop: terminate,
	}.start()
}

// terminate asks a process to end.
func terminate(pid int) error { return unix.Kill(pid, unix.SIGTERM) }

func trimNewline(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return b
}
