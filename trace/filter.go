package trace

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter chooses events. The zero value chooses all.
type Filter struct {
	terms []term
}

// term is a condition of a filter.
type term struct {
	key    string
	values []string
	least  time.Duration // of "vmm" and "guest"
}

// FilterKeys explains what a filter can ask for, a line a key.
const FilterKeys = `  kind=exit,interrupt,doorbell,pop,push   what happened
  device=COM1,virtio-*                    to which device; * and ? match as in a shell
  reason=MMIO,port*                       of an exit
  register=LCR                            that was accessed
  symbol=native_*                         the kernel's function
  op=read or op=write                     of an access
  vcpu=0,2                                which processor
  vmm=100us, guest=1ms                    exits that took at least as long to serve, or came after`

// ParseFilter reads a filter: conditions, separated by spaces, that must all
// hold, each a key and the values that it may have.
func ParseFilter(text string) (Filter, error) {
	var f Filter
	for _, word := range strings.Fields(text) {
		key, values, ok := strings.Cut(word, "=")
		if !ok || values == "" {
			return f, fmt.Errorf("%q: a condition is KEY=VALUE, or KEY=VALUE,VALUE and so on", word)
		}
		t := term{key: key, values: strings.Split(values, ",")}
		switch key {
		case "kind":
			for _, v := range t.values {
				if !slices.Contains(kindNames[:], v) {
					return f, fmt.Errorf("%q is not a kind: %s", v, strings.Join(kindNames[:Lost], ", "))
				}
			}
		case "op":
			for _, v := range t.values {
				if v != "read" && v != "write" {
					return f, fmt.Errorf("%q is not an access: read or write", v)
				}
			}
		case "device", "reason", "register", "symbol":
			for _, v := range t.values {
				if _, err := path.Match(v, ""); err != nil {
					return f, fmt.Errorf("%q is not a pattern: %w", v, err)
				}
			}
		case "vcpu":
			for _, v := range t.values {
				if _, err := strconv.ParseUint(v, 10, 16); err != nil {
					return f, fmt.Errorf("%q is not the number of a vCPU", v)
				}
			}
		case "vmm", "guest":
			d, err := time.ParseDuration(values)
			if err != nil || d < 0 {
				return f, fmt.Errorf("%q is not a time; write one such as 100us", values)
			}
			t.least = d
		default:
			return f, fmt.Errorf("%q is not a key of a filter: kind, device, reason, register, symbol, op, vcpu, vmm, guest", key)
		}
		f.terms = append(f.terms, t)
	}
	return f, nil
}

// Match reports whether the filter chooses an event. Lost records are always
// told of.
func (f Filter) Match(e *Event) bool {
	if e.Kind == Lost.String() {
		return true
	}
	for _, t := range f.terms {
		if !t.match(e) {
			return false
		}
	}
	return true
}

func (t *term) match(e *Event) bool {
	var have string
	switch t.key {
	case "kind":
		have = e.Kind
	case "device":
		have = e.Device
	case "reason":
		have = e.Reason
	case "register":
		have = e.Register
	case "symbol":
		have, _, _ = strings.Cut(e.Symbol, "+")
	case "op":
		have = e.Op
	case "vcpu":
		if e.VCPU != nil {
			have = strconv.Itoa(*e.VCPU)
		}
	case "vmm":
		return e.VCPU != nil && e.VMM >= int64(t.least)
	case "guest":
		return e.VCPU != nil && e.Guest >= int64(t.least)
	}
	return slices.ContainsFunc(t.values, func(v string) bool {
		// "port I/O" is a reason, and words of a filter have no spaces. Slashes
		// are not special.
		ok, _ := path.Match(unslash(v), unslash(have))
		return ok && have != ""
	})
}

func unslash(s string) string { return strings.NewReplacer("/", "|", " ", "-").Replace(s) }
