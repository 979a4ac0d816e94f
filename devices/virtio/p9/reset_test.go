package p9_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"vmm/devices/virtio/p9"
	"vmm/devices/virtio/virtiotest"
)

// A reset while the server reads, writes and syncs: nothing touches the guest's
// memory afterwards, and the next driver gets answers to its own messages only.
func TestResetInFlight(t *testing.T) {
	rounds := 200
	if n, err := strconv.Atoi(os.Getenv("VMM_RESETS")); err == nil {
		rounds = n
	}
	resetInFlight(t, 1, rounds)
}

func resetInFlight(t testing.TB, seed uint64, rounds int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte{0xaa}, 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	dev, err := p9.New("share", server(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	d := virtiotest.New(t, dev)
	const size = 256 << 10
	version := message(tVersion, 0xffff, words(1<<20)+"\x08\x009P2000.L")
	attach := message(tAttach, 1, "\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00")
	d.SetUp(all)
	data, small := d.In(size), d.In(200)
	setup := []virtiotest.Buffer{d.Out(version), d.Out(attach), d.Out(walkTo(1)), d.Out(message(tLopen, 1, words(1, 2)))}
	var heads, answers []virtiotest.Buffer
	for range 20 {
		heads, answers = append(heads, d.Out(make([]byte, 40))), append(answers, d.In(40))
	}
	pattern := bytes.Repeat([]byte{0x55}, size)
	for range rounds {
		for _, m := range setup {
			if n := d.Do(0, m, small); n < 9 || small.Data[4] != m.Data[4]+1 {
				t.Fatalf("the answer to message %d has %d bytes: % x", m.Data[4], n, small.Data[:20])
			}
		}
		for i, head := range heads {
			var m []byte
			tag := uint16(i)
			switch random.IntN(5) {
			case 0, 1:
				m = message(tRead, tag, words(1, uint32(random.IntN(4<<20)), 0, size))
			case 2:
				m = message(tWrite, tag, words(1, uint32(random.IntN(3<<20)), 0, size))
				m[0], m[1], m[2] = 23, 0, size>>16
			case 3:
				m = message(50, tag, words(1, uint32(random.IntN(2)))) // Tfsync
			default:
				m = message(tGetattr, tag, words(1, 0x7ff, 0))
			}
			copy(head.Data, m)
			head.Data = head.Data[:len(m)]
			if m[4] == tWrite {
				d.Rings[0].Add(head, virtiotest.Buffer{Addr: data.Addr, Data: data.Data}, answers[i])
			} else {
				d.Rings[0].Add(head, answers[i], data)
			}
		}
		d.Kick(0)
		for range random.IntN(10) {
			d.Wait(0)
		}
		d.Reset()
		copy(data.Data, pattern)
		for _, a := range answers {
			clear(a.Data)
		}
		d.SetUp(all)
		if !bytes.Equal(data.Data, pattern) {
			t.Fatal("a buffer is written to after the reset")
		}
		for _, a := range answers {
			if !bytes.Equal(a.Data, make([]byte, len(a.Data))) {
				t.Fatal("an answer is written after the reset")
			}
		}
	}
}

// TestAttack is TestResetInFlight for as long as VMM_ATTACK says ("5m"), with new
// seeds.
func TestAttack(t *testing.T) {
	duration, err := time.ParseDuration(os.Getenv("VMM_ATTACK"))
	if err != nil {
		t.Skip("VMM_ATTACK says for how long")
	}
	rounds := 0
	for seed, end := uint64(time.Now().UnixNano()), time.Now().Add(duration); time.Now().Before(end) && !t.Failed(); seed++ {
		t.Logf("seed %d", seed)
		resetInFlight(t, seed, 1000)
		rounds += 1000
	}
	t.Logf("%d resets", rounds)
}
