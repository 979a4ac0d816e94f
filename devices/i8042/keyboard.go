package i8042

// Commands of the keyboard. IBM PC/AT Technical Reference (1985), "Keyboard",
// "Commands from the System".
const (
	keySetLEDs     = 0xed // with an operand
	keyEcho        = 0xee
	keyScanSet     = 0xf0 // with an operand: 0 asks which set is used
	keyIdentify    = 0xf2
	keyTypematic   = 0xf3 // with an operand
	keyEnable      = 0xf4
	keyDisable     = 0xf5
	keyDefaults    = 0xf6
	keyReset       = 0xff
	keyAcknowledge = 0xfa
	keyResend      = 0xfe
	keySelfTest    = 0xaa // passed

	scanSet = 2 // the only one
)

// Scan codes of set 2.
const (
	scanBreak    = 0xf0 // before the code of a key that is released
	scanExtended = 0xe0
	scanCtrl     = 0x14
	scanAlt      = 0x11
	scanDel      = 0x71
)

// ctrlAltDel is Ctrl, Alt and Del, pressed and then released, in set 2.
var ctrlAltDel = []uint8{
	scanCtrl, scanAlt, scanExtended, scanDel,
	scanExtended, scanBreak, scanDel, scanBreak, scanAlt, scanBreak, scanCtrl,
}

// translated are the codes of set 1 for those of set 2 that this keyboard sends,
// and for the second byte of its identity, which the controller takes for one.
var translated = map[uint8]uint8{scanCtrl: 0x1d, scanAlt: 0x38, scanDel: 0x53, identity[1]: 0x41}

// identity is what a keyboard with 101 keys answers to keyIdentify.
var identity = [2]uint8{0xab, 0x83}

// keyBuffer is how many bytes a keyboard keeps. Those that come beyond are lost.
const keyBuffer = 32

// keyboard is an AT keyboard with three keys.
type keyboard struct {
	scanning  bool    // it sends what is pressed
	command   uint8   // waits for its operand; 0 for none
	pending   []uint8 // what the controller has yet to take
	delivered bool    // the byte at the data port is the keyboard's
}

func (k *keyboard) send(bytes ...uint8) {
	if len(k.pending)+len(bytes) <= keyBuffer {
		k.pending = append(k.pending, bytes...)
	}
}

// next is the next byte for the guest.
func (k *keyboard) next(translate bool) (v uint8, ok bool) {
	if len(k.pending) == 0 {
		return 0, false
	}
	v = k.take()
	if !translate {
		return v, true
	}
	released := v == scanBreak && len(k.pending) > 0
	if released {
		v = k.take()
	}
	if code, ok := translated[v]; ok {
		v = code
	}
	if released {
		v |= 1 << 7
	}
	return v, true
}

func (k *keyboard) take() uint8 {
	v := k.pending[0]
	k.pending = k.pending[1:]
	return v
}

// write takes a byte from the guest: a command, or the operand of one.
func (k *keyboard) write(v uint8) {
	if command := k.command; command != 0 {
		k.command = 0
		k.send(keyAcknowledge)
		if command == keyScanSet && v == 0 {
			k.send(scanSet)
		}
		return
	}
	switch v {
	case keyEcho:
		k.send(keyEcho)
	case keySetLEDs, keyScanSet, keyTypematic:
		k.command = v
		k.send(keyAcknowledge)
	case keyIdentify:
		k.send(keyAcknowledge, identity[0], identity[1])
	case keyEnable, keyDefaults:
		k.scanning = true
		k.send(keyAcknowledge)
	case keyDisable:
		k.scanning = false
		k.send(keyAcknowledge)
	case keyReset:
		k.scanning = true
		k.pending = nil
		k.send(keyAcknowledge, keySelfTest)
	default:
		k.send(keyResend)
	}
}
