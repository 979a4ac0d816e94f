//go:build amd64 && solutions

package exercise

// Multiply multiplies where example 01 adds.
var Multiply = []byte{
	0xba, 0xf8, 0x03, // mov $0x3f8, %dx
	0xf6, 0xe3, //       mul %bl
	0x04, '0', //        add $'0', %al
	0xee, //             out %al, (%dx)
	0xf4, //             hlt
}

// Countdown counts in AL.
var Countdown = []byte{
	0xba, 0xf8, 0x03, // mov $0x3f8, %dx
	0xb0, '5', //        mov $'5', %al
	0xee,       // 1:    out %al, (%dx)
	0xfe, 0xc8, //       dec %al
	0x3c, '0', //        cmp $'0', %al
	0x75, 0xf9, //       jne 1b
	0xf4, //             hlt
}
