package i8042

import "vmm/devices"

var (
	_ devices.Namer = dataPort{}
	_ devices.Namer = commandPort{}

	_ devices.Shower = dataPort{}
	_ devices.Shower = commandPort{}
)

// Show implements devices.Shower.
func (p dataPort) Show() []devices.Value {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return []devices.Value{{Register: "data", Bytes: 1, Value: uint64(p.c.state.output)}}
}

// Show implements devices.Shower.
func (p commandPort) Show() []devices.Value {
	var status [1]byte
	p.Read(0, status[:]) // changes nothing
	return []devices.Value{{Register: "status", Bytes: 1, Value: uint64(status[0])}}
}

// Register implements devices.Namer.
func (dataPort) Register(uint64, bool) string { return "data" }

// Meaning implements devices.Namer.
func (dataPort) Meaning(string, bool, uint64) string { return "" }

// Register implements devices.Namer.
func (commandPort) Register(_ uint64, write bool) string {
	if write {
		return "command"
	}
	return "status"
}

// commandNames are the commands of execute.
var commandNames = map[uint64]string{
	cmdReadControl:  "read control byte",
	cmdWriteControl: "write control byte",
	cmdTestMouse:    "test mouse interface",
	cmdSelfTest:     "self-test",
	cmdTestKeyboard: "test keyboard interface",
	cmdReadOutput:   "read output port",
	cmdWriteOutput:  "write output port",
	cmdEcho:         "echo as keyboard",
	cmdEchoMouse:    "echo as mouse",
	0xfe:            "pulse reset",
}

// Meaning implements devices.Namer.
func (commandPort) Meaning(register string, _ bool, v uint64) string {
	switch register {
	case "command":
		return commandNames[v]
	case "status":
		return devices.Bits(v, "output-full", "input-full", "system", "command", "unlocked")
	}
	return ""
}
