package virtiotest_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"vmm/devices/virtio/balloon"
	"vmm/devices/virtio/console"
	"vmm/devices/virtio/virtiotest"
)

// The configuration space of each device reads the same at any width and place: its
// bytes, and ones past its end.
func TestConfigWidths(t *testing.T) {
	onEach(t, func(t *testing.T, s subject, start func() *virtiotest.Driver) {
		d := start()
		d.SetUp(d.Offered())
		var image []byte
		for offset := range uint64(0x100) {
			image = append(image, d.Config(offset, 1)...)
		}
		for _, n := range []int{2, 4, 8} {
			for offset := range 0x100 - n + 1 {
				if got, want := d.Config(uint64(offset), n), image[offset:][:n]; !bytes.Equal(got, want) {
					t.Errorf("%d bytes at %#x: % x; want % x", n, offset, got, want)
				}
			}
		}
		if past := image[0x80:]; !bytes.Equal(past, bytes.Repeat([]byte{0xff}, len(past))) {
			t.Errorf("past the end: % x", past)
		}
	})
}

// What a driver writes to a configuration space counts at any width and place that
// reaches it, and changes nothing else.
func TestConfigWriteWidths(t *testing.T) {
	for _, n := range []int{1, 2, 4, 8} {
		for offset := range uint64(20) {
			t.Run(fmt.Sprintf("%d bytes at %d", n, offset), func(t *testing.T) {
				data := []byte("abcdefgh")[:n]

				d := virtiotest.New(t, balloon.New(balloon.Config{Size: 0x1234_5000}))
				want := d.Config(0, 32)
				for i := range data {
					if at := int(offset) + i; at >= 4 && at < 8 { // actual
						want[at] = data[i]
					}
				}
				d.SetConfig(offset, data)
				if got := d.Config(0, 32); !bytes.Equal(got, want) {
					t.Errorf("balloon: % x; want % x", got, want)
				}

				var out bytes.Buffer
				d = virtiotest.NewLogged(t, console.New(&out), slog.New(slog.DiscardHandler))
				before := d.Config(0, 32)
				d.SetConfig(offset, data)
				text := ""
				if offset <= 8 && offset+uint64(n) > 8 { // emerg_wr
					text = string(data[8-offset : 9-offset])
				}
				if got := d.Config(0, 32); !bytes.Equal(got, before) || out.String() != text {
					t.Errorf("console: %q came out, % x; want %q, % x", out.String(), got, text, before)
				}
			})
		}
	}
}
