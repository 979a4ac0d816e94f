package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// busy is what the guest does while it is saved: it writes to a disk and reads back,
// directly, and notes each round, and the time ten times a second. It ends at the first
// difference. It is a format.
const busy = `echo 0 >/run/rounds; cat >/run/busy <<'END'
n=0
while :; do
	n=$((n+1))
	head -c 65536 /dev/urandom >/run/noise
	dd if=/run/noise of=/dev/vdb bs=64k seek=$((n%%128)) oflag=direct conv=notrunc status=none || exit 1
	dd if=/dev/vdb of=/run/back bs=64k skip=$((n%%128)) count=1 iflag=direct status=none || exit 1
	cmp /run/noise /run/back || exit 1
	echo $n >>/run/rounds
done
END
(sh /run/busy >/run/busy.log 2>&1; echo ended >>/run/busy.log) &
(while :; do date +%%s.%%N; sleep 0.1; done) >/run/ticks 2>&1 &`

// rounds is how many rounds the guest has done, all of them without an error.
func (v *vm) rounds() int {
	v.t.Helper()
	out := v.sh("cat /run/busy.log; tail -n 1 /run/rounds")
	n, err := strconv.Atoi(out)
	if err != nil {
		v.fail("the guest's disk: " + out)
	}
	return n
}

// alive checks that the guest goes on: its disk, its clock and its processors.
func (v *vm) alive() {
	v.t.Helper()
	before := v.rounds()
	for deadline := time.Now().Add(2 * time.Minute); v.rounds() == before; {
		if time.Now().After(deadline) {
			v.fail("the guest does nothing with its disk any more")
		}
	}
	if out := v.sh("dmesg | grep -E 'rcu.*stall|soft lockup|BUG:|Oops|Call Trace|blocked for more|nobody cared' || true"); out != "" {
		v.t.Errorf("the guest's log: %s", out)
	}
	// The guest's clock was set from the host's, with a resolution of a second.
	asked := time.Now()
	seconds, err := strconv.ParseFloat(v.sh("date +%%s.%%N"), 64)
	if err != nil {
		v.t.Error(err)
	}
	guest := time.UnixMilli(int64(seconds * 1000))
	if early, late := asked.Add(-2*time.Second), time.Now().Add(2*time.Second); guest.Before(early) || guest.After(late) {
		v.t.Errorf("the guest's clock says %v at %v", guest, asked)
	}
}

// A Linux that writes to its disk, with a network, is saved and restored again and
// again: nothing is lost or done twice, and its log says nothing.
func TestSnapshot(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		for _, cpus := range []int{1, 2} {
			t.Run(fmt.Sprintf("%d CPUs", cpus), func(t *testing.T) {
				dir := t.TempDir()
				disk := image(t, dir, "disk", 16*mib)
				v := serve(t, "--transport", transport, "--cpus", fmt.Sprint(cpus), "--memory", "256M", "--disk", "path="+disk, "--net", "user", "--balloon")
				v.sh("mkdir -p /run/systemd/netif; ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; ping -c 1 -W 10 10.0.2.2")
				v.sh(busy)
				v.alive()
				ends := []string{"--disk", "path=" + env(t, "VMM_DEBIAN"), "--disk", "path=" + disk, "--net", "user"}
				for i := range 3 {
					snapshot := filepath.Join(dir, fmt.Sprint("snapshot", i))
					start := time.Now()
					v.ctl("snapshot", "--stop", snapshot)
					t.Logf("saved in %v", time.Since(start))
					if r := v.wait(20 * time.Second); r.status != 0 || r.report.Outcome != "quit" {
						t.Fatalf("saved, vmm ends with status %d, %s\n%s", r.status, r.report.Outcome, r.err)
					}
					if i == 1 {
						time.Sleep(10 * time.Second) // as much as the guest is away
					}
					start = time.Now()
					v = startRestored(t, snapshot, ends...)
					v.sh("true")
					t.Logf("restored, and a command answered, in %v", time.Since(start))
					v.alive()
					v.sh("ping -c 1 -W 10 10.0.2.2")
				}
				v.powerOff()
			})
		}
	})
}

// startRestored goes on with a snapshot.
func startRestored(t testing.TB, dir string, ends ...string) *vm {
	t.Helper()
	return start(t, nil, "restore", append([]string{dir}, ends...)...)
}

// A machine goes on while a snapshot of it is taken, and its images are not those of
// the snapshot any more: to restore it then is refused.
func TestSnapshotOfChangedDisk(t *testing.T) {
	dir := t.TempDir()
	disk, snapshot := image(t, dir, "disk", 16*mib), filepath.Join(dir, "snapshot")
	v := serve(t, "--memory", "256M", "--disk", "path="+disk)
	v.sh(busy)
	v.alive()
	v.ctl("snapshot", snapshot)
	v.alive()
	v.kill()
	r := startRestored(t, snapshot, "--disk", "path="+env(t, "VMM_DEBIAN"), "--disk", "path="+disk).wait(20 * time.Second)
	if r.status == 0 || !strings.Contains(r.err, "has changed") {
		t.Errorf("status %d, %s", r.status, r.err)
	}
	if _, err := os.Stat(snapshot); err != nil {
		t.Error(err)
	}
}
