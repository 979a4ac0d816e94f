package i8042

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmm/devices"
)

func in(port devices.Device) uint8 {
	data := []byte{0xff}
	port.Read(0, data)
	return data[0]
}

func out(port devices.Device, v uint8) { port.Write(0, []byte{v}) }

// command writes a command and its operands, and reads the answer. It fails
// the test where a guest would wait for one in vain.
func command(t *testing.T, c *Controller, bytes ...uint8) uint8 {
	t.Helper()
	out(c.Command(), bytes[0])
	for _, v := range bytes[1:] {
		out(c.Data(), v)
	}
	const inputFull = 1 << 1
	if status := in(c.Command()); status&(statusOutputFull|inputFull) != statusOutputFull {
		t.Fatalf("after % x the status is %#x: no answer", bytes, status)
	}
	return in(c.Data())
}

func TestReset(t *testing.T) {
	tests := []struct {
		name     string
		commands []uint8
		operands []uint8
		want     int
	}{
		{"pulse of the reset line", []uint8{0xfe}, nil, 1},
		{"pulse of all lines", []uint8{0xf0}, nil, 1},
		{"pulse of no line", []uint8{0xff}, nil, 0},
		{"pulse of A20", []uint8{0xfd}, nil, 0},
		{"output port, reset low", []uint8{0xd1}, []uint8{0xde}, 1},
		{"output port, reset high", []uint8{0xd1}, []uint8{0xdf}, 0},
		{"output port, A20 closed", []uint8{0xd1}, []uint8{0xdd}, 0},
		{"one operand only", []uint8{0xd1}, []uint8{0xdf, 0}, 0},
		{"operand of no command", nil, []uint8{0xfe, 0}, 0},
		{"another command between", []uint8{0xd1, 0xaa}, []uint8{0}, 0},
		{"unknown command", []uint8{0x00}, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resets := 0
			var c *Controller
			c = New(func() {
				in(c.Command()) // the callback may use the device
				resets++
			}, nil)
			for _, v := range tt.commands {
				out(c.Command(), v)
			}
			for _, v := range tt.operands {
				out(c.Data(), v)
			}
			if resets != tt.want {
				t.Errorf("%d resets; want %d", resets, tt.want)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		name  string
		bytes []uint8
		want  uint8
	}{
		{"self-test", []uint8{0xaa}, 0x55},
		{"test of the keyboard's lines", []uint8{0xab}, 0x01},
		{"test of the mouse's lines", []uint8{0xa9}, 0x01},
		{"output port: no reset, A20 open", []uint8{0xd0}, 0x03},
		{"echo", []uint8{0xd2, 0x42}, 0x42},
		{"echo as the mouse", []uint8{0xd3, 0x5a}, 0x5a},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := New(func() { t.Error("reset") }, nil)
			if got := command(t, c, tt.bytes...); got != tt.want {
				t.Errorf("answer to % x: %#x; want %#x", tt.bytes, got, tt.want)
			}
		})
	}
}

func TestControlByte(t *testing.T) {
	c := New(nil, nil)
	for _, v := range []uint8{0x47, 0x30} {
		out(c.Command(), cmdWriteControl)
		out(c.Data(), v)
		if got := command(t, c, cmdReadControl); got != v {
			t.Errorf("control byte is %#x; want %#x", got, v)
		}
	}
}

func TestStatus(t *testing.T) {
	const idle = statusSystem | statusUnlocked
	c := New(nil, nil)
	got := []uint8{in(c.Command())}
	out(c.Command(), cmdSelfTest)
	got = append(got, in(c.Command()), in(c.Command()))
	in(c.Data())
	got = append(got, in(c.Command()))
	out(c.Data(), 0xed)
	got = append(got, in(c.Command()))
	want := []uint8{
		idle,
		idle | statusCommand | statusOutputFull, idle | statusCommand | statusOutputFull,
		idle | statusCommand,
		idle,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Linux looks for a mouse with an echo. Without the status bit for a mouse's
// byte it concludes that there is none; drivers/input/serio/i8042.c,
// i8042_check_aux.
func TestNoMouse(t *testing.T) {
	const fromMouse = 1 << 5
	c := New(nil, nil)
	out(c.Command(), cmdEchoMouse)
	out(c.Data(), 0x5a)
	if status := in(c.Command()); status&(statusOutputFull|fromMouse) != statusOutputFull {
		t.Errorf("status is %#x; want a byte, and not of a mouse", status)
	}
	if got := command(t, c, cmdTestMouse); got == 0 {
		t.Error("the test of the mouse's lines has passed")
	}
}
