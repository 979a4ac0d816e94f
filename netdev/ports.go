package netdev

import (
	"fmt"
	"strconv"
	"strings"
)

// PortRange is a range of TCP and UDP ports, both ends included.
type PortRange struct{ First, Last uint16 }

// AllPorts is every port.
var AllPorts = PortRange{1, 65535}

// Contains reports whether a port is in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// String is what ParsePortRange reads.
func (r PortRange) String() string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// ParsePortRange reads a port or a range of ports: "5432" or "8000-8080".
func ParsePortRange(s string) (PortRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	var r PortRange
	for p, word := range map[*uint16]string{&r.First: first, &r.Last: last} {
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil || word[0] == '+' {
			return PortRange{}, fmt.Errorf("%q is not a port or a range of ports, such as 5432 or 8000-8080", s)
		}
		*p = uint16(n)
	}
	if r.First == 0 || r.First > r.Last {
		return PortRange{}, fmt.Errorf("%q is not a range of ports from 1 to 65535", s)
	}
	return r, nil
}
