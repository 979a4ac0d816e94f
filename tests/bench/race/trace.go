package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// tracing is where the lab has the kernel's tracefs.
const tracing = "/sys/kernel/tracing"

// tracer listens to KVM's tracepoints kvm_entry and kvm_exit.
type tracer struct{}

func set(values ...[2]string) error {
	for _, v := range values {
		if err := os.WriteFile(filepath.Join(tracing, v[0]), []byte(v[1]), 0); err != nil {
			return fmt.Errorf("the kernel's traces: %w", err)
		}
	}
	return nil
}

func (tracer) start() error {
	return set([2]string{"trace_clock", "mono"}, [2]string{"buffer_size_kb", "65536"}, [2]string{"trace", ""},
		[2]string{"events/kvm/kvm_entry/enable", "1"}, [2]string{"events/kvm/kvm_exit/enable", "1"},
		[2]string{"tracing_on", "1"})
}

// event is a line such as
//
//	vmm-312   [000] d....  12.345678: kvm_exit: vcpu 0 reason npf rip 0xffffffff81000040 ...
var event = regexp.MustCompile(`(?m) ([0-9]+)\.([0-9]{6}): kvm_(entry|exit): .*?rip 0x([0-9a-f]+)`)

// The addresses to which Linux for x86-64 maps itself.
const kernelAddr = 0xffff_ffff_8000_0000

// stop says how long after start the guest was entered, and how long after it
// an exit first came from the kernel at its own addresses.
func (tracer) stop(start time.Duration) (entered, kernel time.Duration, err error) {
	if err := set([2]string{"tracing_on", "0"}, [2]string{"events/kvm/kvm_entry/enable", "0"},
		[2]string{"events/kvm/kvm_exit/enable", "0"}); err != nil {
		return 0, 0, err
	}
	text, err := os.ReadFile(filepath.Join(tracing, "trace"))
	if err != nil {
		return 0, 0, err
	}
	for len(text) > 0 && kernel == 0 {
		m := event.FindSubmatchIndex(text)
		if m == nil {
			break
		}
		field := func(i int) string { return string(text[m[2*i]:m[2*i+1]]) }
		seconds, _ := strconv.ParseInt(field(1), 10, 64)
		micros, _ := strconv.ParseInt(field(2), 10, 64)
		at := time.Duration(seconds)*time.Second + time.Duration(micros)*time.Microsecond - start
		rip, _ := strconv.ParseUint(field(4), 16, 64)
		if entered == 0 {
			entered = at
		}
		if rip >= kernelAddr {
			kernel = at
		}
		text = text[m[1]:]
	}
	if bytes.Contains(text, []byte("[LOST")) {
		return 0, 0, fmt.Errorf("the kernel's traces have a gap")
	}
	return entered, kernel, nil
}
