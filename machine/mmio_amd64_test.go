package machine

import "testing"

// Devices on the MMIO transport are on the command line of a kernel that may not
// read ACPI tables, and where the line says.
func TestMMIOWords(t *testing.T) {
	const one, two = "virtio_mmio.device=4K@0xc0001000:5", "virtio_mmio.device=4K@0xc0002000:6"
	tests := []struct {
		name  string
		words []string
		line  string
		linux bool
		want  string
	}{
		{"Linux", []string{one}, "console=ttyS0 quiet", true, "console=ttyS0 quiet"},
		{"Linux without ACPI", []string{one, two}, "quiet acpi=off", true, "quiet acpi=off " + one + " " + two},
		{"Linux without ACPI, with words for init", []string{one}, "acpi=off -- reset", true, "acpi=off " + one + " -- reset"},
		{"Linux that asks", []string{one}, "quiet {virtio_mmio} x", true, "quiet " + one + " x"},
		{"another kernel", []string{one, two}, "name", false, "name " + one + " " + two},
		{"another kernel, with nothing to say", []string{one}, "", false, one},
		{"another kernel, with words for its program", []string{one}, "name ip=10.0.0.1 -- a -- b", false, "name ip=10.0.0.1 " + one + " -- a -- b"},
		{"only words for its program", []string{one}, "-- a", false, one + " -- a"},
		{"a place of its own", []string{one, two}, "name {virtio_mmio} -- a", false, "name " + one + " " + two + " -- a"},
		{"words of its own", []string{one}, "name " + two, false, "name " + two},
		{"no devices", nil, "name -- a", false, "name -- a"},
		{"no devices, and a place for them", nil, "name {virtio_mmio} -- a", false, "name  -- a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &Machine{words: tt.words}
			if got := m.cmdline(tt.line, tt.linux); got != tt.want {
				t.Errorf("%q; want %q", got, tt.want)
			}
		})
	}
}
