package i8042

import "vmm/devices"

var _ devices.Namer = (*Controller)(nil)

// Register implements devices.Namer. On a PC the three ports between data and
// command belong to others.
func (c *Controller) Register(offset uint64, write bool) string {
	switch {
	case offset == regData:
		return "data"
	case offset == regCommand && write:
		return "command"
	case offset == regCommand:
		return "status"
	case offset == 1:
		return "port B" // the timer's gate and the speaker
	}
	return ""
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
func (c *Controller) Meaning(register string, _ bool, v uint64) string {
	switch register {
	case "command":
		return commandNames[v]
	case "status":
		return devices.Bits(v, "output-full", "input-full", "system", "command", "unlocked")
	}
	return ""
}
