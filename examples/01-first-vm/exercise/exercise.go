//go:build amd64 && !solutions

// Package exercise is for lesson 1: programs in machine code. Intel SDM vol. 2 has
// the opcodes; `as` and `objdump -d` help.
package exercise

// Multiply is a program that writes the product of AL and BL to the serial port,
// port 0x3f8, as a digit, and halts. The product is less than ten.
var Multiply []byte

// Countdown is a program that writes "54321" to the serial port, in a loop, and
// halts. It has at most 20 bytes.
var Countdown []byte
