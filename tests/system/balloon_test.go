package system

import (
	"fmt"
	"testing"
	"time"

	"vmm/control"
)

// eventually waits a minute for a status, and returns the last.
func (v *vm) eventually(is func(control.Status) bool) control.Status {
	v.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if s := v.status(); is(s) || time.Now().After(deadline) {
			return s
		}
	}
}

// used is what the guest does with memory: it takes 200 MiB, and gives it back
// to itself.
const used = "mkdir -p /mem && mount -t tmpfs -o size=300m mem /mem && head -c 200M /dev/zero >/mem/x && umount /mem"

// A balloon gives the host memory back, and the guest gets it again.
func TestBalloon(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		v := serve(t, "--transport", transport, "--balloon")
		v.sh(used)
		before := v.status().Resident
		v.ctl("balloon", "256M")
		s := v.eventually(func(s control.Status) bool { return s.Balloon.Actual == 256*mib && s.Resident < before-150*mib })
		t.Logf("resident: %d MiB, with the balloon %d MiB", before/mib, s.Resident/mib)
		if s.Balloon.Actual != 256*mib || s.Resident >= before-150*mib {
			v.fail(fmt.Sprintf("%d MiB were resident, and %d with a balloon of %d", before/mib, s.Resident/mib, s.Balloon.Actual/mib))
		}
		if free := s.Balloon.Guest["free_memory"]; free == 0 || free > 256*mib {
			v.fail(fmt.Sprintf("the guest says: %v", s.Balloon.Guest))
		}
		v.ctl("balloon", "0")
		v.sh(`for i in $(seq 300); do [ $(awk '/MemFree/ {print $2}' /proc/meminfo) -gt 250000 ] && exit; sleep 0.1; done; exit 1`)
		v.sh(used)
		// More than it can spare: the guest takes back what it needs.
		v.ctl("balloon", "256M")
		v.eventually(func(s control.Status) bool { return s.Balloon.Actual == 256*mib })
		v.sh(used)
		v.powerOff()
	})
}

// Memory that a guest frees goes back to the host by itself.
func TestFreePageReporting(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		v := serve(t, "--transport", transport, "--balloon", "free-page-reporting")
		v.sh("mkdir -p /mem && mount -t tmpfs -o size=300m mem /mem && head -c 200M /dev/zero >/mem/x")
		full := v.status().Resident
		v.sh("umount /mem")
		after := v.eventually(func(s control.Status) bool { return s.Resident < full-150*mib }).Resident
		t.Logf("resident: %d MiB, and %d MiB once freed", full/mib, after/mib)
		if after >= full-150*mib {
			v.fail(fmt.Sprintf("%d MiB are resident after the guest freed 200 of %d", after/mib, full/mib))
		}
		v.sh(used) // what was given back can be used again
		v.powerOff()
	})
}
