package system

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The Debian image boots to the end with nothing that failed, lets its user in,
// and powers off cleanly: with every device there is.
func TestDebian(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		debian(t, nil, "--transport", transport,
			"--kernel", only(t, env(t, "VMM_DEBIAN_BOOT")+"/vmlinuz-*-cloud-amd64"),
			"--initrd", only(t, env(t, "VMM_DEBIAN_BOOT")+"/initrd.img-*-cloud-amd64"))
	})
}

// It does so on the full kernel too, without an initial RAM disk, and finds what
// containers and shared folders take.
func TestDebianFullKernel(t *testing.T) {
	checks := map[string]string{
		"uname -r | cut -d. -f1,2":              "6.12",
		"systemd-detect-virt":                   "kvm",
		"cat /sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids",
		"systemd-run -qP -p MemoryMax=64M -p CPUQuota=50% -p TasksMax=10 echo ok":                                                                "ok",
		"unshare --user --map-root-user --mount --pid --fork --mount-proc --net --uts --ipc --cgroup --time sh -c 'echo $$; ip -o link | wc -l'": "1 1",
		"cd /run && mkdir -p a b c d && mount -t overlay -o lowerdir=a,upperdir=b,workdir=c o d && findmnt -no FSTYPE d":                         "overlay",
		"mount -t 9p -o trans=virtio host /mnt && ls /mnt/key.pub":                                                                               "/mnt/key.pub",
		"ip link add v0 type veth peer name v1 && ip link add b0 type bridge && ip link set v0 master b0 && ip link del v0 && ip link del b0":    "",
		"dmesg --level emerg,alert,crit,err | sed '/PCI: Fatal: No config space/d'":                                                              "", // over MMIO there is no PCI
	}
	debian(t, checks, "--transport", "mmio", "--kernel", env(t, "VMM_GUEST_FULL")+"/vmlinuz")
}

// debian boots the Debian image with a kernel, looks at it, and powers it off.
// checks are further commands, and what they print.
func debian(t *testing.T, checks map[string]string, flags ...string) {
	t.Helper()
	dir := t.TempDir()
	disk := env(t, "VMM_DEBIAN")
	key := filepath.Join(dir, "key")
	host(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	start := time.Now()
	v := launch(t, nil, append([]string{"--memory", "1G", "--rootfs", disk, "--net", fmt.Sprintf("user,hostfwd=tcp:127.0.0.1:%d-:22", port),
		"--vsock", "cid=3,uds=" + filepath.Join(dir, "vsock"), "--share", "path=" + dir + ",tag=host,ro", "--balloon"}, flags...)...)
	ssh := func(command string) (string, error) {
		out, err := exec.Command("ssh", "-i", key, "-p", fmt.Sprint(port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "root@127.0.0.1", command).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	v.await(`root@vmm:~# `, 0, 5*time.Minute)
	t.Logf("%5.1f s to the prompt", time.Since(start).Seconds())
	from := v.out.len()
	fmt.Fprintf(v.input, "mkdir -p .ssh && echo '%s' >.ssh/authorized_keys\n", strings.TrimSpace(string(public)))
	v.await(`root@vmm:~# `, from, time.Minute)

	state, err := ssh("systemctl is-system-running --wait")
	if err != nil || state != "running" {
		failed, _ := ssh("systemctl --failed; journalctl -b -p warning")
		v.fail(fmt.Sprintf("the system is %s, %v\n%s", state, err, failed))
	}
	t.Logf("%5.1f s to %s", time.Since(start).Seconds(), state)
	all := map[string]string{
		"systemctl is-active multi-user.target":          "active",
		"systemctl list-units --failed --no-legend":      "",
		"systemctl is-active systemd-networkd":           "active",
		"findmnt -no SOURCE,FSTYPE /":                    "/dev/vda ext4",
		"cat /sys/class/net/e*/address | wc -l":          "1",
		"getent hosts host.vmm.internal | cut -d' ' -f1": "10.0.2.4",
	}
	maps.Copy(all, checks)
	for command, want := range all {
		if got, err := ssh(command); err != nil || strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("%s: %q, %v; want %q", command, got, err, want)
		}
	}
	_, _ = ssh("systemctl poweroff") // the connection goes with the machine
	r := v.wait(2 * time.Minute)
	if r.status != 0 || r.report.Outcome != "power-off" {
		t.Fatalf("exit status %d, %s\n%s\n%s", r.status, r.report.Outcome, r.err, tail(r.out))
	}
	t.Logf("%5.1f s to the end", time.Since(start).Seconds())
	for _, bad := range []string{"Failed to ", "[FAILED]", "Kernel panic", "BUG:", "Call Trace"} {
		if strings.Contains(r.out, bad) {
			t.Errorf("the console says %q:\n%s", bad, r.out)
		}
	}
	if out := host(t, "/sbin/e2fsck", "-fn", disk); strings.Contains(out, "recovering journal") {
		t.Errorf("the file system was not left cleanly:\n%s", out)
	}
}

// only is the one file that a pattern stands for.
func only(t testing.TB, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	return files[0]
}

// Debian shuts down when the power button is pressed, and restarts at Ctrl-Alt-Del.
// A guest whose kernel has no driver for either says so, and is stopped.
func TestShutdown(t *testing.T) {
	for _, tt := range []struct {
		command []string
		want    string
	}{
		{[]string{"shutdown"}, "power-off"},
		{[]string{"reboot"}, "reset"},
		{[]string{"stop", "--after", "5m"}, "power-off"},
	} {
		t.Run(tt.command[0], func(t *testing.T) {
			v := launch(t, nil, "--memory", "1G", "--rootfs", env(t, "VMM_DEBIAN"),
				"--kernel", only(t, env(t, "VMM_DEBIAN_BOOT")+"/vmlinuz-*-cloud-amd64"),
				"--initrd", only(t, env(t, "VMM_DEBIAN_BOOT")+"/initrd.img-*-cloud-amd64"))
			v.await(`root@vmm:~# `, 0, 5*time.Minute)
			from := v.out.len()
			fmt.Fprintln(v.input, "systemctl is-system-running --wait; systemctl is-active systemd-logind")
			v.await(`\nactive`, from, 2*time.Minute)

			v.ctl(tt.command...)

			r := v.wait(3 * time.Minute)
			if r.status != 0 || r.report.Outcome != tt.want {
				t.Fatalf("exit status %d, %s; want %s\n%s\n%s", r.status, r.report.Outcome, tt.want, r.err, tail(r.out))
			}
			if !strings.Contains(r.out, "Reached target") {
				t.Errorf("no orderly end:\n%s", tail(r.out))
			}
		})
	}
}
