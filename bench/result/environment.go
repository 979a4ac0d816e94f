package result

// Environment is the host that everything was measured on.
type Environment struct {
	CPU          string            `json:"cpu"`
	CPUs         int               `json:"cpus"`
	MemoryBytes  int64             `json:"memory_bytes"`
	Kernel       string            `json:"kernel"`
	Distribution string            `json:"distribution"`
	Machine      string            `json:"machine"` // bare metal, virtual or emulated: see Host
	Host         Host              `json:"host"`
	KVM          string            `json:"kvm"` // the module, and whether it may nest
	Mitigations  map[string]string `json:"mitigations"`
	Governor     string            `json:"governor"`
	Turbo        string            `json:"turbo"`
	THP          string            `json:"transparent_hugepages"`
	KSM          string            `json:"ksm"`
	Clocksource  string            `json:"clocksource"`
	Cgroup       string            `json:"cgroup"`
	Load         string            `json:"load_average"` // at the start of the run
	Versions     map[string]string `json:"versions"`
}

// Host is what the host itself runs on.
type Host string

// The hosts.
const (
	BareMetal Host = "bare metal"
	Virtual   Host = "virtual"  // a virtual machine with hardware's help: guests are nested
	Emulated  Host = "emulated" // a processor made of software: times are not those of any hardware
)

// Caution is a sentence for every figure from this host; "" when there is nothing
// to say.
func (e Environment) Caution() string {
	switch e.Host {
	case Emulated:
		return "Emulated host: its processor is software. The figures compare the rows with each other; none of them is a time on hardware."
	case Virtual:
		return "The host is a virtual machine itself: virtual machines on it are nested, and slower than on bare metal."
	}
	return ""
}
