package main

import (
	"fmt"
	"sync"
	"time"

	"vmm/control"
	"vmm/devices/virtio"
	"vmm/machine"
	"vmm/trace"
)

// What can be asked for with control.Inspect.
const (
	inspectCounters = "counters"
	inspectQueues   = "queues"
)

// Inspect implements control.Machine.
func (c controlled) Inspect(r control.Request) (any, error) {
	switch r.What {
	case inspectCounters:
		return c.counting.ask(c.Machine, c.config.CPUs), nil
	case inspectQueues:
		return c.Queues(), nil
	}
	return nil, fmt.Errorf("%q is nothing to inspect", r.What)
}

// counters are what "vmm top" shows.
type counters struct {
	trace.Totals
	Queues []virtio.State `json:"queues"`
}

// counting counts a machine's exits while somebody asks for the counts: it costs
// a little at each exit.
type counting struct {
	mu       sync.Mutex
	counters *trace.Counters // nil: nobody asks
	stop     func()
	timer    *time.Timer
}

// countingFor is how long the counting goes on after the last question.
const countingFor = 10 * time.Second

func (c *counting) ask(m *machine.Machine, vcpus int) counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counters == nil {
		c.counters = trace.NewCounters(vcpus)
		c.stop = m.Trace(c.counters, false)
		c.timer = time.AfterFunc(countingFor, c.end)
	}
	c.timer.Reset(countingFor)
	return counters{c.counters.Totals(m.Uptime()), m.Queues()}
}

// end stops counting.
func (c *counting) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.timer.Stop()
		c.stop()
		c.counters, c.stop = nil, nil
	}
}
