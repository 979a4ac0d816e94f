package system

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What vmm ctl does to a real guest, on a virtio console.
func TestControl(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		v := serve(t, "--transport", transport, "--console", "virtio", "--balloon")
		if got := v.sh("cat /sys/class/tty/console/active"); got != "hvc0" {
			t.Errorf("the console is %s", got)
		}
		if got := len(v.sh("seq -w 9999")); got != 9999*5-1 {
			t.Errorf("%d bytes of 49994 on the console", got)
		}

		// A guest that is paused does nothing, and does not notice.
		v.sh("(while :; do date; sleep 0.05; done) >/run/ticks 2>&1 & sleep 1")
		v.ctl("pause")
		if s := v.status(); s.State != "paused" {
			t.Errorf("paused, it is %s", s.State)
		}
		r := v.begin("tail -n 1 /run/ticks; wc -l </run/ticks")
		from := v.out.len()
		exits := v.status().Exits
		time.Sleep(5 * time.Second)
		if text := v.out.textFrom(from); text != "" {
			t.Errorf("a paused guest writes %q", text)
		}
		if now := v.status().Exits; now != exits {
			t.Errorf("a paused guest exits: %d", now-exits)
		}
		v.ctl("resume")
		if _, status := v.result(r); status != 0 {
			t.Errorf("status %d", status)
		}
		if s := v.status(); s.State != "running" || s.CPUs != 1 || s.Memory != 512*mib || s.PID != v.cmd.Process.Pid {
			t.Errorf("status: %+v", s)
		}
		v.sh("[ $(wc -l </run/ticks) -gt 5 ]")
		v.ctl("stop")
		if r := v.wait(20 * time.Second); r.status != 0 || r.report.Outcome != "quit" {
			t.Errorf("after stop: exit status %d, %s\n%s", r.status, r.report.Outcome, r.err)
		}
		if _, err := os.Stat(v.control); err == nil {
			t.Error("the control socket is left behind")
		}
	})
}

// A guest that has nothing to do does not wake vmm, whatever devices it has. Its
// own kernel wakes up now and then, and with it the threads of its processors,
// but inside KVM.
func TestIdle(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		dir := t.TempDir()
		v := serve(t, "--transport", transport, "--net", "user", "--balloon", "free-page-reporting",
			"--vsock", "cid=3,uds="+filepath.Join(dir, "vsock"), "--share", "path="+dir+",tag=dir")
		// The guest's kernel asks devices for something now and then: it looks for
		// routers, and wants random numbers once a minute. Most of that takes no exit
		// to vmm. It is switched off, and what the start has left to be done is
		// waited for.
		v.sh(`set -e
			echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
			cd /sys/bus/virtio/drivers/virtio_rng
			for device in virtio*; do echo $device >unbind; done
			ip link set eth0 up
			sleep 15`)
		const watched = 20 * time.Second
		const asked = 4 // exits, at the most, for the status that is asked for
		// Once a minute Go's runtime looks whether garbage is to be collected: one
		// thread, which goes to sleep twice, in vmm and in its user network.
		const monitors = 2 * 2
		exits := v.status().Exits
		time.Sleep(5 * time.Second) // for the end of that question, and what it has freed
		before := threads(t, v.cmd.Process.Pid)
		time.Sleep(watched)
		after := threads(t, v.cmd.Process.Pid)
		exits = v.status().Exits - exits
		woken := 0
		for id, th := range after {
			if !th.vcpu {
				woken += th.switches - before[id].switches
			}
		}
		t.Logf("in %v, vmm woke %d times, with %d exits", watched, woken, exits)
		if exits > asked || woken > monitors {
			t.Error("it does not rest")
		}
		v.powerOff()
	})
}

// thread is a thread of vmm.
type thread struct {
	vcpu     bool // it is in an ioctl: that of a vCPU
	switches int  // how often it has left a processor
}

// threads looks at all threads of a process and of its children. proc(5).
func threads(t testing.TB, pid int) map[int]thread {
	t.Helper()
	tasks := fmt.Sprintf("/proc/%d/task", pid)
	dirs, err := os.ReadDir(tasks)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]thread{}
	for _, d := range dirs {
		read := func(name string) string {
			text, err := os.ReadFile(filepath.Join(tasks, d.Name(), name))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		number := func(s string) int {
			n, err := strconv.Atoi(strings.TrimSpace(s))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		th := thread{
			vcpu: strings.HasPrefix(read("syscall"), fmt.Sprint(unix.SYS_IOCTL)+" "),
		}
		for l := range strings.Lines(read("status")) {
			if name, value, _ := strings.Cut(l, ":"); strings.HasSuffix(name, "voluntary_ctxt_switches") {
				th.switches += number(value)
			}
		}
		all[number(d.Name())] = th
		for _, child := range strings.Fields(read("children")) {
			maps.Copy(all, threads(t, number(child)))
		}
	}
	return all
}
