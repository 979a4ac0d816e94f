package phases

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	text := `# tracer: nop
#
# entries-in-buffer/entries-written: 5/5   #P:2
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
             vmm-93      [001] .....    12.000100: sched_process_exec: filename=/usr/bin/vmm pid=93 old_pid=93
             vmm-95      [000] d..1.    12.004321: kvm_fpu: load
             vmm-95      [000] .....    12.100000: kvm_pio: pio_write at 0x80 size 1 count 1 val 0x1 
             vmm-95      [000] .....    12.654321: kvm_pio: pio_write at 0x80 size 1 count 1 val 0x41 
             vmm-95      [000] .....    12.700000: kvm_pio: pio_write at 0x80 size 1 count 1 val 0x41 
`
	want := Seen{
		Guest: 12*time.Second + 4321*time.Microsecond,
		Init:  12*time.Second + 654321*time.Microsecond,
		Execs: []Exec{{12*time.Second + 100*time.Microsecond, "/usr/bin/vmm"}},
	}
	if diff := cmp.Diff(want, parse(text)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Seen{}, parse("nothing\n: \nx: kvm_fpu: y\n")); diff != "" {
		t.Errorf("of noise: %s", diff)
	}
}
