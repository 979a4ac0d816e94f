package main

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"vmm/boot/acpi"
	"vmm/control"
	"vmm/cpuid"
	"vmm/devices/virtio"
	"vmm/machine"
	"vmm/paging"
	"vmm/trace"
)

// What can be asked for with control.Inspect. docs/control.md describes the
// answers, which are the types below.
const (
	inspectCounters   = "counters"
	inspectQueues     = "queues"
	inspectMemoryMap  = "memory-map"
	inspectPageTables = "page-tables"
	inspectACPI       = "acpi"
	inspectCPUID      = "cpuid"
	inspectSymbols    = "symbols"
	inspectProcessor  = "processor"
	inspectTouched    = "touched"
	inspectDevices    = "devices"
	inspectRings      = "rings"
	inspectConsole    = "console"
	inspectTimeline   = "timeline"
	inspectSandbox    = "sandbox"
)

// counters are what "vmm top" shows.
type counters struct {
	trace.Totals
	Queues []virtio.State `json:"queues"`
}

// area is a piece of an address space.
type area struct {
	Start    trace.Hex `json:"start"`
	Size     uint64    `json:"size"` // in bytes, or ports
	Name     string    `json:"name"`
	Kind     string    `json:"kind"` // "RAM", "device", "KVM"; "" of contents
	Contents []area    `json:"contents,omitempty"`
}

// memoryMap is the answer to inspectMemoryMap.
type memoryMap struct {
	Memory []area `json:"memory"`
	Ports  []area `json:"ports"`
}

// pageWalk is the answer to inspectPageTables with an address.
type pageWalk struct {
	Mode     string       `json:"mode"`
	Linear   trace.Hex    `json:"linear"`
	Entries  []tableEntry `json:"entries"`
	Mapped   bool         `json:"mapped"`
	Physical trace.Hex    `json:"physical"` // if mapped, and what follows too
	PageSize uint64       `json:"page_size"`
	Rights   string       `json:"rights"`
}

// tableEntry is an entry of a table on the way.
type tableEntry struct {
	Table   string    `json:"table"`
	Index   int       `json:"index"`
	Address trace.Hex `json:"address"` // guest-physical, of the entry
	Value   trace.Hex `json:"value"`
	Present bool      `json:"present"`
	Rights  string    `json:"rights"`
}

// mappings is the answer to inspectPageTables without an address.
type mappings struct {
	Mode   string    `json:"mode"`
	Ranges []mapping `json:"ranges"`
	// Complete: there are no more. Otherwise the list was cut off.
	Complete bool `json:"complete"`
}

// mapping is a run of linear addresses.
type mapping struct {
	Linear   trace.Hex `json:"linear"`
	Physical trace.Hex `json:"physical"`
	Size     uint64    `json:"size"`
	PageSize uint64    `json:"page_size"`
	Rights   string    `json:"rights"`
}

// maxMappings is how many runs an answer has at the most.
const maxMappings = 100_000

// places is the answer to inspectCPUID.
type places struct {
	Host  []cpuid.Leaf `json:"host"`
	KVM   []cpuid.Leaf `json:"kvm"`
	Guest []cpuid.Leaf `json:"guest"`
}

// Inspect implements control.Machine.
func (c controlled) Inspect(r control.Request) (any, error) {
	switch r.What {
	case inspectCounters:
		return c.counting.ask(c.Machine, c.config.CPUs), nil
	case inspectQueues:
		return c.Queues(), nil
	case inspectMemoryMap:
		return memoryMap{areasOf(c.MemoryMap()), areasOf(c.Ports())}, nil
	case inspectPageTables:
		if r.Address != nil {
			return c.walk(r.CPU, *r.Address)
		}
		return c.mappings(r.CPU)
	case inspectACPI:
		return c.acpi()
	case inspectCPUID:
		return c.cpuid(r.CPU)
	case inspectSymbols:
		return c.symbols()
	case inspectProcessor:
		return c.processor(r.CPU)
	case inspectTouched:
		return c.Touched(c.pagemap)
	case inspectDevices:
		return c.Devices(r.CPU)
	case inspectRings:
		return c.Rings(r.Device, r.Queue)
	case inspectConsole:
		return outputOf(c.console.Since(r.From, 0)), nil
	case inspectSandbox:
		if cage := c.cage.Load(); cage != nil {
			return cage, nil
		}
		return nil, errors.New("the sandbox is not closed yet: the machine is being made")
	case inspectTimeline:
		if c.config.Timeline == nil {
			return nil, errors.New("no timeline is recorded: start vmm boot with --timeline")
		}
		return c.config.Timeline.Data(c.config.Kernel), nil
	}
	return nil, fmt.Errorf("%q is nothing to inspect", r.What)
}

// output is the answer to inspectConsole.
type output struct {
	At   uint64 `json:"at"` // the number of the first byte, since the start
	Text string `json:"text"`
	// Next is the number of the byte after the last: Text has other bytes where
	// the guest's were no UTF-8.
	Next uint64 `json:"next"`
}

// outputOf makes text of bytes. A character that has not come whole is left for the
// next time.
func outputOf(at uint64, data []byte) output {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		if tail := data[len(data)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				data = data[:len(data)-n]
			}
			break
		}
	}
	return output{at, string(data), at + uint64(len(data))}
}

// processor is the answer to inspectProcessor.
type processor struct {
	machine.Processor
	// Code is what the vCPU is about to execute; empty where it is not mapped.
	Code []instruction `json:"code"`
}

// instruction is a line of a disassembly.
type instruction struct {
	Address trace.Hex `json:"address"`
	Bytes   string    `json:"bytes"` // hexadecimal
	Text    string    `json:"text"`
	Symbol  string    `json:"symbol,omitempty"`
}

// codeSize is how much code processor looks at, in bytes: a dozen instructions or
// more.
const codeSize = 96

// userMode is the privilege level of programs.
const userMode = 3

func (c controlled) processor(vcpu int) (processor, error) {
	p, err := c.Processor(vcpu)
	if err != nil {
		return processor{}, err
	}
	out := processor{Processor: p, Code: []instruction{}}
	code := make([]byte, codeSize)
	n, err := c.ReadLinear(vcpu, uint64(p.Next), code)
	if err != nil {
		return out, nil // it shows as no code
	}
	names := c.names
	if p.Privilege == userMode {
		names = userSymbols{names}
	}
	for _, i := range trace.Disassemble(code[:n], uint64(p.Next), p.Bits, names) {
		out.Code = append(out.Code, instruction{trace.Hex(i.Addr), fmt.Sprintf("% x", i.Code), i.Text, i.Symbol})
	}
	return out, nil
}

func areasOf(all []machine.Area) []area {
	list := []area{}
	for _, a := range all {
		out := area{Start: trace.Hex(a.Start), Size: a.Size, Name: a.Name, Kind: a.Kind}
		for _, p := range a.Contents {
			out.Contents = append(out.Contents, area{Start: trace.Hex(p.Start), Size: p.Size, Name: p.Name})
		}
		list = append(list, out)
	}
	return list
}

func (c controlled) walk(cpu int, linear uint64) (pageWalk, error) {
	w, err := c.Translate(cpu, linear)
	if err != nil {
		return pageWalk{}, err
	}
	out := pageWalk{
		Mode: w.Mode.String(), Linear: trace.Hex(w.Linear), Entries: []tableEntry{}, Mapped: w.Mapped,
		Physical: trace.Hex(w.Physical), PageSize: w.Size, Rights: w.Flags.String(),
	}
	for _, e := range w.Entries {
		out.Entries = append(out.Entries, tableEntry{
			Table: e.Table, Index: e.Index, Address: trace.Hex(e.Addr), Value: trace.Hex(e.Value),
			Present: e.Present(), Rights: paging.Flags(e.Value).String(),
		})
	}
	return out, nil
}

func (c controlled) mappings(cpu int) (mappings, error) {
	m := mappings{Ranges: []mapping{}}
	mode, complete, err := c.Mappings(cpu, func(r paging.Range) bool {
		m.Ranges = append(m.Ranges, mapping{trace.Hex(r.Linear), trace.Hex(r.Physical), r.Size, r.Page, r.Flags.String()})
		return len(m.Ranges) < maxMappings
	})
	m.Mode, m.Complete = mode.String(), complete
	return m, err
}

// acpi is the tables that can be found. What the guest has destroyed is missing.
func (c controlled) acpi() ([]acpi.Found, error) {
	found, err := c.ACPI()
	if len(found) > 0 {
		err = nil
	}
	return found, err
}

func (c controlled) cpuid(cpu int) (places, error) {
	guest, err := c.CPUID(cpu)
	if err != nil {
		return places{}, err
	}
	p := hostCPUID(c.SupportedCPUID())
	p.Guest = guest
	return p, nil
}

// hostCPUID is what CPUID says outside of guests, beside what KVM supports.
func hostCPUID(supported []cpuid.Leaf) places {
	return places{Host: cpuid.Host(supported), KVM: supported}
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
	return counters{c.counters.Totals(m.Uptime(), m.InGuest), m.Queues()}
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
