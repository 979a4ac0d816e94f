package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
)

// The files in a guest's initial RAM disk.
const (
	Folder   = ".vmm" // of all of them, in its root
	InitPath = Folder + "/init"
	SpecPath = Folder + "/spec.json"
	// ModulesPath is a folder with modules of the kernel, which its file "order"
	// lists in the order in which they are loaded.
	ModulesPath = Folder + "/modules"
)

// MaxSpec is the size of the largest specification, in bytes.
const MaxSpec = 4 << 20

// Spec says what a guest is to be. Its first process finds it in the initial RAM
// disk.
type Spec struct {
	Version int
	// Root is the device with the image's files, an EROFS file system, over which
	// the guest's memory takes what is written. Without one, the files are in the
	// initial RAM disk, and it is the root.
	Root     string   `json:",omitempty"`
	Hostname string   `json:",omitempty"`
	Network  *Network `json:",omitempty"`
	Mounts   []Mount  `json:",omitempty"`
	Process  Process
	// Session: the host waits at HostPort. Without, the program has the console.
	Session bool `json:",omitempty"`
}

// Network is the configuration of a network card.
type Network struct {
	Interface string
	Address   string // with the length of its prefix: 10.0.2.15/24
	Gateway   string
	Resolvers []string `json:",omitempty"`
}

// Mount is a folder of the host's.
type Mount struct {
	Tag      string // of the virtio 9P device
	Target   string
	ReadOnly bool `json:",omitempty"`
}

// Process is a program and what it is started with.
type Process struct {
	Args []string
	Env  []string `json:",omitempty"`
	Dir  string   `json:",omitempty"`
	// User is a name or number, and perhaps a colon and a group, as in an image's
	// configuration; root without one. Names are the image's own.
	User string `json:",omitempty"`
	// Groups are further groups, by name or number.
	Groups []string `json:",omitempty"`
	// Terminal: the program has one, of this size.
	Terminal      bool   `json:",omitempty"`
	Rows, Columns uint16 `json:",omitempty"`
	// Capabilities are those that it may ever have, as in capabilities(7), which root
	// has from the start. With AllCapabilities it has each that there is.
	Capabilities    []string `json:",omitempty"`
	AllCapabilities bool     `json:",omitempty"`
	NoNewPrivileges bool     `json:",omitempty"`
	Rlimits         []Rlimit `json:",omitempty"`
}

// Rlimit is a limit of a program, by its name in getrlimit(2): "NOFILE".
type Rlimit struct {
	Name       string
	Soft, Hard uint64
}

// ReadSpec reads a specification, and checks it.
func ReadSpec(r io.Reader) (*Spec, error) {
	var s Spec
	if err := decode(r, &s); err != nil {
		return nil, err
	}
	// The version first: the rest is of that one.
	if s.Version != Version {
		return nil, fmt.Errorf("the host's vmm speaks version %d of the protocol, and this init version %d; install both from one build", s.Version, Version)
	}
	return &s, s.Check()
}

// ReadProcess reads what is to be executed, and checks it.
func ReadProcess(r io.Reader) (*Process, error) {
	var p Process
	if err := decode(r, &p); err != nil {
		return nil, err
	}
	return &p, p.Check()
}

func decode(r io.Reader, v any) error {
	text, err := io.ReadAll(io.LimitReader(r, MaxSpec+1))
	if err != nil {
		return err
	}
	if len(text) > MaxSpec {
		return fmt.Errorf("it is larger than %d bytes", MaxSpec)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // what it asks for and this version cannot do
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return fmt.Errorf("something follows it")
	}
	return nil
}

// Check says what is wrong with a specification, if anything.
func (s *Spec) Check() error {
	for _, text := range []string{s.Root, s.Hostname} {
		if err := checkText(text); err != nil {
			return err
		}
	}
	if len(s.Hostname) > 64 {
		return fmt.Errorf("the host name %.80q is longer than 64 bytes", s.Hostname)
	}
	for _, m := range s.Mounts {
		if m.Tag == "" || !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
			return fmt.Errorf("a folder with the tag %.80q at %.80q", m.Tag, m.Target)
		}
		if err := checkText(m.Tag + m.Target); err != nil {
			return err
		}
	}
	return s.Process.Check()
}

// Check says what is wrong with a process, if anything.
func (p *Process) Check() error {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return fmt.Errorf("it names no program")
	}
	for _, list := range [][]string{p.Args, p.Env, {p.Dir, p.User}, p.Groups} {
		for _, text := range list {
			if err := checkText(text); err != nil {
				return err
			}
		}
	}
	for _, e := range p.Env {
		if strings.Index(e, "=") < 1 {
			return fmt.Errorf("the variable %.80q has no name, or no value", e)
		}
	}
	if p.Dir != "" && !path.IsAbs(p.Dir) {
		return fmt.Errorf("the working directory %.80q does not begin with a slash", p.Dir)
	}
	for _, c := range p.Capabilities {
		if _, ok := CapabilityNumber(c); !ok {
			return fmt.Errorf("there is no capability %.80q", c)
		}
	}
	for _, l := range p.Rlimits {
		if _, ok := Rlimits[l.Name]; !ok {
			return fmt.Errorf("there is no limit %.80q", l.Name)
		}
		if l.Soft > l.Hard {
			return fmt.Errorf("the limit %s of %d is above its hard limit of %d", l.Name, l.Soft, l.Hard)
		}
	}
	return nil
}

// checkText refuses what no system call takes.
func checkText(text string) error {
	if strings.ContainsRune(text, 0) {
		return fmt.Errorf("a zero byte in %.80q", text)
	}
	return nil
}

// capabilities are the names, in the order of their numbers: capabilities(7),
// include/uapi/linux/capability.h.
var capabilities = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL
	CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN
	CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT
	CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE
	CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM
	CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

// CapabilityNumber is the number of a capability, whose name may lack "CAP_" and be
// in lower case.
func CapabilityNumber(name string) (int, bool) {
	name = "CAP_" + strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	for i, c := range capabilities {
		if c == name {
			return i, true
		}
	}
	return 0, false
}

// Rlimits are the numbers of limits: getrlimit(2), include/uapi/asm-generic/resource.h.
var Rlimits = map[string]int{
	"CPU": 0, "FSIZE": 1, "DATA": 2, "STACK": 3, "CORE": 4, "RSS": 5, "NPROC": 6, "NOFILE": 7, "MEMLOCK": 8, "AS": 9,
	"LOCKS": 10, "SIGPENDING": 11, "MSGQUEUE": 12, "NICE": 13, "RTPRIO": 14, "RTTIME": 15,
}
