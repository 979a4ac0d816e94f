package system

import (
	"os"
	"path/filepath"
	"testing"
)

// A second driver takes the devices over from a first one: after its module was
// taken out and put back, and after kexec, when the first had no time to say
// goodbye.
func TestSecondDriver(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		dir := t.TempDir()
		path := filepath.Join(dir, "vsock")
		disk := image(t, dir, "disk", 16*mib)
		args := []string{
			"--transport", transport, "--kernel", env(t, "VMM_KERNEL_FULL") + "/vmlinuz", "--initrd", env(t, "VMM_INITRD_FULL"),
			"--disk", "path=" + env(t, "VMM_DEBIAN") + ",ro,serial=debian", "--disk", "path=" + disk,
			"--disk", "path=" + whole(t, env(t, "VMM_KERNEL_FULL")+"/vmlinuz", filepath.Join(dir, "kernel")) + ",ro,serial=kernel",
			"--disk", "path=" + whole(t, env(t, "VMM_INITRD_FULL"), filepath.Join(dir, "initrd")) + ",ro,serial=initrd",
			"--net", "user", "--share", "path=" + dir + ",tag=dir", "--vsock", "cid=3,uds=" + path,
			"--balloon", "size=32M,free-page-reporting", "--console", "virtio",
			"--append", "loglevel=2 vmm.do=kexec",
		}
		v := launch(t, nil, args...)
		v.await(`--- ready ---\n`, 0, 2*shTimeout)
		use := func() {
			t.Helper()
			v.sh("dd if=/dev/urandom of=/dev/vdb bs=64k count=64 oflag=direct status=none && dd if=/dev/vdb of=/root/a bs=1M iflag=direct status=none && cmp -n 4M /root/a /dev/vdb")
			v.sh("ip link set eth0 up && (ip addr add 10.0.2.15/24 dev eth0 2>&1; true) && ping -c 2 -W 5 10.0.2.2")
			v.sh("mkdir -p /mnt && mount -t 9p -o trans=virtio,version=9p2000.L dir /mnt && cmp -n 64k /mnt/kernel /dev/vdc && umount /mnt")
			if err := echoed(path, 5000, 0, 8<<10); err != nil {
				t.Errorf("vsock: %v", err)
			}
			v.sh("head -c 64 /dev/hwrng | wc -c")
			if s := v.status(); s.Balloon == nil || s.Balloon.Actual != 32*mib || s.Balloon.Guest["free_memory"] == 0 {
				t.Errorf("balloon: %+v", s.Balloon)
			}
		}
		v.listen(path, 5000)
		use()
		// All but the disk of the system, and the console.
		drivers := "virtio_net virtio_balloon virtio-rng vmw_vsock_virtio_transport 9pnet_virtio"
		for range 3 {
			v.sh("set -e; for m in %s; do rmmod $m; done; for m in %[1]s; do insmod /modules/$m.ko; done; sleep 1", drivers)
		}
		// Of that disk, the device: unbound and bound, while it works.
		v.sh(`set -e
d=$(basename $(realpath /sys/block/vdb/device)); cd /sys/bus/virtio/drivers/virtio_blk
for i in 1 2 3; do dd if=/dev/vdb of=/dev/null bs=4k iflag=direct status=none & sleep 0.1; echo $d >unbind; wait || true; echo $d >bind; done; sleep 1; ls /dev/vdb`)
		use()
		v.powerOff()
	})
}

// whole copies a file, with zeroes to the end of a sector.
func whole(t testing.TB, from, to string) string {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	data = append(data, make([]byte, -len(data)&511)...)
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return to
}
