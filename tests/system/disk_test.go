package system

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// image makes a sparse file for a disk.
func image(t testing.TB, dir, name string, size int64) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// noise fills a file with random bytes, and returns their SHA-256.
func noise(t testing.TB, path string, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.NewChaCha8([32]byte{2}), size); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// sumFile is the SHA-256 of a file.
func sumFile(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// allocated is how much storage a file takes, in bytes.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Blocks * 512
}

// firstWord is what sha256sum says first.
func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}

const mib = 1 << 20

// What a file system and its user do with a disk, and what the host sees of it.
func TestDisk(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		dir := t.TempDir()
		source, copied := filepath.Join(dir, "source"), image(t, dir, "copied", 256*mib)
		want := noise(t, source, 256*mib)
		system := image(t, dir, "system", 512*mib)
		qcow2 := filepath.Join(dir, "image.qcow2")
		small := filepath.Join(dir, "small")
		wantSmall := noise(t, small, 8*mib)
		host(t, "qemu-img", "convert", "-O", "qcow2", "-c", small, qcow2)
		host(t, "cp", qcow2, qcow2+".copy")
		v := serve(t, "--transport", transport,
			"--disk", "path="+source+",ro,serial=source", "--disk", "path="+copied, "--disk", "path="+system,
			"--disk", "path="+qcow2+",format=qcow2,ro")

		// The same bytes from both sides.
		if got := firstWord(v.sh("sha256sum /dev/vdb")); got != want {
			t.Errorf("the guest reads %s; want %s", got, want)
		}
		v.sh("dd if=/dev/vdb of=/dev/vdc bs=1M oflag=direct status=none && blockdev --flushbufs /dev/vdc")
		if got := sumFile(t, copied); got != want {
			t.Errorf("the guest wrote %s; want %s", got, want)
		}
		if got := firstWord(v.sh("sha256sum /dev/vde")); got != wantSmall {
			t.Errorf("the guest reads %s from the qcow2 image; want %s", got, wantSmall)
		}
		if got := v.sh("cat /sys/block/vdb/serial"); got != "source" {
			t.Errorf("serial number %q", got)
		}

		// Read-only is what it says.
		for _, disk := range []string{"vdb", "vde"} {
			if got := v.sh("cat /sys/block/%s/ro", disk); got != "1" {
				t.Errorf("%s: ro is %s", disk, got)
			}
			if out, status := v.try("dd if=/dev/zero of=/dev/%s bs=4k count=1 oflag=direct", disk); status == 0 {
				t.Errorf("%s takes a write: %s", disk, out)
			}
		}
		if got := sumFile(t, source); got != want {
			t.Error("a read-only disk has changed")
		}

		// What is discarded is free on the host, and reads as zeroes.
		before := allocated(t, copied)
		v.sh("blkdiscard -o 64M -l 128M /dev/vdc")
		if freed := before - allocated(t, copied); freed < 127*mib {
			t.Errorf("discarding 128 MiB freed %d bytes", freed)
		}
		v.sh("cmp -n 128M -i 64M:0 /dev/vdc /dev/zero")

		// A file system.
		v.sh(`mkfs.ext4 -q /dev/vdd && mkdir -p /mnt && mount /dev/vdd /mnt && cp -a /usr/bin /mnt/ && sync`)
		before = allocated(t, system)
		v.sh(`diff -rq --no-dereference /usr/bin /mnt/bin && rm -r /mnt/bin && sync && fstrim /mnt`)
		if freed := before - allocated(t, system); freed < 32*mib {
			t.Errorf("removing files freed %d bytes of %d on the host", freed, before)
		}
		v.sh(`cp -a /usr/sbin /mnt/ && umount /mnt && e2fsck -fn /dev/vdd`)

		// Two that write would destroy it.
		out, err := exec.Command(env(t, "VMM_BIN"), "boot", "--kernel", env(t, "VMM_KERNEL_FULL")+"/vmlinuz", "--disk", "path="+system).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "in use by another process") {
			t.Errorf("a second vmm on the same image: %v\n%s", err, out)
		}
		out, err = exec.Command(env(t, "VMM_BIN"), "boot", "--kernel", env(t, "VMM_KERNEL_FULL")+"/vmlinuz", "--disk", "path="+qcow2+".copy,format=qcow2").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "does not write them") {
			t.Errorf("a qcow2 image to write to: %v\n%s", err, out)
		}

		v.powerOff()
		host(t, "/sbin/e2fsck", "-fn", system)
	})
}

// Random reads and writes with one queue and with four, each block checked, and
// none of it with an exit to vmm.
func TestDiskLoad(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		dir := t.TempDir()
		v := serve(t, "--transport", transport, "--cpus", "4",
			"--disk", "path="+image(t, dir, "one", 64*mib)+",queues=1", "--disk", "path="+image(t, dir, "four", 64*mib)+",queues=4")
		for disk, queues := range map[string]int{"vdb": 1, "vdc": 4} {
			if got := v.sh("ls /sys/block/%s/mq | wc -l", disk); got != strconv.Itoa(queues) {
				t.Errorf("%s: %s queues; want %d", disk, got, queues)
			}
			v.sh("fio --name=verify --filename=/dev/%s --ioengine=libaio --direct=1 --iodepth=32 --rw=randrw --bsrange=4k-64k "+
				"--numjobs=%d --size=%dM --offset_increment=%dM --verify=crc32c --verify_fatal=1 --group_reporting --output-format=terse",
				disk, queues, 32/queues, 32/queues)
			// Under load neither doorbells nor interrupts come to vmm: but for
			// the two registers that a driver of the MMIO transport reads and
			// writes for an interrupt. virtio §4.2.3.4.
			before, interruptsBefore := v.status().Exits, v.interrupts()
			v.sh("fio --name=load --filename=/dev/%s --ioengine=libaio --direct=1 --iodepth=32 --rw=randrw --bs=4k "+
				"--numjobs=%d --time_based --runtime=5 --group_reporting --output-format=json >/run/fio", disk, queues)
			exits, interrupts := v.status().Exits-before, v.interrupts()-interruptsBefore
			var report struct {
				Jobs []struct {
					Read, Write struct {
						Total int `json:"total_ios"`
					}
				}
			}
			out := v.sh("cat /run/fio")
			if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Jobs) != 1 {
				t.Fatalf("fio: %v\n%s", err, out)
			}
			requests := report.Jobs[0].Read.Total + report.Jobs[0].Write.Total
			t.Logf("%s: %d requests, %d interrupts, %d exits", disk, requests, interrupts, exits)
			allowed := uint64(shExits)
			if transport == "mmio" {
				allowed += 2 * interrupts
			}
			if requests < 1000 || exits > allowed {
				t.Errorf("%s: %d exits in %d requests with %d interrupts; want at most %d", disk, exits, requests, interrupts, allowed)
			}
		}
		v.powerOff()
	})
}

// interrupts is how many interrupts of virtio devices the guest counts.
func (v *vm) interrupts() uint64 {
	v.t.Helper()
	out := v.sh(`awk '/virtio/ {for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i} END {print n + 0}' /proc/interrupts`)
	n, err := strconv.ParseUint(out, 10, 64)
	if err != nil {
		v.t.Fatal(err)
	}
	return n
}

// What a guest has flushed is on the disk, though vmm is killed the next
// moment.
func TestDiskKilled(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		dir := t.TempDir()
		system := image(t, dir, "system", 256*mib)
		v := serve(t, "--transport", transport, "--disk", "path="+system)
		v.sh("mkfs.ext4 -q /dev/vdb && mkdir -p /mnt && mount /dev/vdb /mnt")
		want := firstWord(v.sh("head -c 20M /dev/urandom >/root/kept && cp /root/kept /mnt/kept && sync -f /mnt && sha256sum /root/kept"))
		// More of it, so that there is always something under way.
		v.sh("(while :; do dd if=/root/kept of=/mnt/more bs=64k conv=fsync status=none; dd if=/root/kept of=/mnt/new bs=1M conv=fsync status=none; rm /mnt/new; done) >/dev/null 2>&1 & sleep 1")
		// Here the guest knows that it is safe.
		v.begin("dd if=/root/kept of=/mnt/last bs=4k conv=fsync status=none; echo on the disk; sleep 600")
		v.await("on the disk", 0, shTimeout)
		v.kill()

		// Plays the journal back, as the next mount would.
		if out, err := exec.Command("/sbin/e2fsck", "-fp", system).CombinedOutput(); err != nil {
			if status := err.(*exec.ExitError).ExitCode(); status != 1 {
				t.Fatalf("e2fsck: status %d\n%s", status, out)
			}
		}
		for _, name := range []string{"kept", "last"} {
			path := filepath.Join(dir, name)
			host(t, "/sbin/debugfs", "-R", "dump /"+name+" "+path, system)
			if got := sumFile(t, path); got != want {
				t.Errorf("%s: %s; want %s", name, got, want)
			}
		}
	})
}

// A full host is an I/O error of the guest's and a line for the user, and both
// go on when there is room again.
func TestDiskFull(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		dir := t.TempDir()
		if err := unix.Mount("full", dir, "tmpfs", 0, "size=16m"); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}()
		v := serve(t, "--transport", transport, "--disk", "path="+image(t, dir, "disk", 64*mib))
		if out, status := v.try("dd if=/dev/zero of=/dev/vdb bs=1M count=32 oflag=direct"); status == 0 || !strings.Contains(out, "Input/output error") {
			t.Errorf("32 MiB onto 16: status %d, %s", status, out)
		}
		v.sh("dd if=/dev/vdb of=/dev/null bs=1M count=8 iflag=direct")
		if err := unix.Mount("full", dir, "tmpfs", unix.MS_REMOUNT, "size=80m"); err != nil {
			t.Fatal(err)
		}
		v.sh("dd if=/dev/zero of=/dev/vdb bs=1M count=32 oflag=direct")
		r := v.powerOff()
		if n := strings.Count(r.err, "make room on the host"); n != 1 {
			t.Errorf("the user is told %d times:\n%s", n, r.err)
		}
	})
}
