// Package bench measures what a virtual machine costs against a container and a
// unikernel: it starts the same application in each, in random order, and takes
// start times, memory, throughput and isolation. docs/bench.md says how.
package bench

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"vmm/bench/result"
	benchrt "vmm/bench/runtime"
)

// Suites are what can be measured, in the order in which it is.
var Suites = []string{"start", "memory", "rest", "sort", "density", "isolation"}

// Options is what a user wants measured.
type Options struct {
	result.Config
	// Dir is where the results go.
	Dir string
	// Resume goes on with the run in Dir.
	Resume bool
	// Assets is where guest-images/bench has put what is started.
	Assets string
	// Image is a container image to measure instead of the built-in applications:
	// the folder of an OCI layout, or an archive of one.
	Image string
	// Ready is where the image is asked whether it is ready: http://:PORT/PATH.
	Ready string
	// Timeout is how long a start may take; for a distribution four times that.
	// 0 is a minute, and three on an emulated host.
	Timeout time.Duration
	// Limit is how long a subject's trials of a suite may take, by what is known
	// when one begins; what would take longer is not tried, but for one start.
	Limit time.Duration
	// Pin are the processors for the runtimes, as the user wrote them; "" for a
	// choice by the number of processors.
	Pin string
}

// Defaults are the options of a thorough run.
func Defaults() Options {
	return Options{
		Config: result.Config{
			Suites: slices.Clone(Suites), Runtimes: slices.Clone(benchrt.Names), N: 30, Seed: 1,
			Parallel: []int{1, 10, 50}, Rates: []int{50, 200, 1000}, SortSizes: []int{100, 1000, 4000},
			Seconds: 10, Density: 50, DensityReserve: 256, DensityP99: 1,
		},
		Limit: 10 * time.Minute,
	}
}

// Validate checks the options, as far as that is possible without trying them.
func (o *Options) Validate() error {
	for _, list := range []struct {
		what      string
		got, have []string
	}{{"suite", o.Suites, Suites}, {"runtime", o.Runtimes, benchrt.Names}} {
		if len(list.got) == 0 {
			return fmt.Errorf("no %s: choose of %s", list.what, strings.Join(list.have, ", "))
		}
		for _, name := range list.got {
			if !slices.Contains(list.have, name) {
				return fmt.Errorf("%q is not a %s: choose of %s", name, list.what, strings.Join(list.have, ", "))
			}
		}
	}
	switch {
	case o.N < 1:
		return fmt.Errorf("-n %d: a figure needs at least one measurement", o.N)
	case o.Seconds <= 0:
		return errors.New("--seconds: load takes more than no time")
	case o.Image != "" && len(o.Apps) > 0:
		return errors.New("--app and --image: choose one of them")
	case o.Image == "" && o.Ready != "":
		return errors.New("--ready is for --image: the built-in applications are asked at http://:8080/")
	}
	for _, p := range o.Parallel {
		if p < 1 || p > maxParallel {
			return fmt.Errorf("--parallel %d: choose from 1 to %d", p, maxParallel)
		}
	}
	if o.Density < 1 || o.Density > maxParallel {
		return fmt.Errorf("--density %d: choose from 1 to %d", o.Density, maxParallel)
	}
	if o.DensityReserve < 0 || o.DensityP99 <= 0 {
		return errors.New("--density-reserve is at least 0 MiB, --density-p99 more than 0 s")
	}
	for _, r := range append(slices.Clone(o.Rates), o.SortSizes...) {
		if r < 1 {
			return fmt.Errorf("%d: rates and sizes are at least 1", r)
		}
	}
	for _, list := range []*[]int{&o.Parallel, &o.Rates, &o.SortSizes} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	if o.Image != "" {
		if o.Ready == "" {
			return errors.New("--image: say with --ready where it tells that it is ready, such as http://:8080/")
		}
		if _, _, err := parseReady(o.Ready); err != nil {
			return err
		}
	}
	var err error
	if o.WorkCPUs, o.ClientCPUs, err = divide(o.Pin, runtime.NumCPU()); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("network devices, cgroups and containers take root: run it with sudo; what it makes is in namespaces of its own, and gone at the end")
	}
	return nil
}

// maxParallel bounds what is started at once; there are addresses for more.
const maxParallel = 500

// divide gives the runtimes and the client processors of their own. By default the
// client has one of two or three, and a quarter of more.
func divide(pin string, n int) (work, client []int, err error) {
	if pin == "" {
		if n < 2 {
			return []int{0}, []int{0}, nil
		}
		for c := range n {
			if c < max(1, n/4) {
				client = append(client, c)
			} else {
				work = append(work, c)
			}
		}
		return work, client, nil
	}
	work, err = ParseCPUs(pin)
	if err != nil {
		return nil, nil, fmt.Errorf("--pin %w", err)
	}
	for _, c := range work {
		if c >= n {
			return nil, nil, fmt.Errorf("--pin %s: this machine has processors 0 to %d", pin, n-1)
		}
	}
	for c := range n {
		if !slices.Contains(work, c) {
			client = append(client, c)
		}
	}
	if len(client) == 0 {
		return nil, nil, fmt.Errorf("--pin %s: leave a processor for the load generator", pin)
	}
	return work, client, nil
}

// ParseCPUs reads a list of processors, such as 2,4-7.
func ParseCPUs(s string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(s, ",") {
		var first, last int
		switch n, err := fmt.Sscanf(part, "%d-%d", &first, &last); {
		case n == 2 && err == nil && first >= 0 && first <= last && last < 1<<12 && part == fmt.Sprintf("%d-%d", first, last):
		case n == 1 && first >= 0 && part == fmt.Sprint(first):
			last = first
		default:
			return nil, fmt.Errorf("%q: write processors like 2,4-7", s)
		}
		for c := first; c <= last; c++ {
			if !slices.Contains(cpus, c) {
				cpus = append(cpus, c)
			}
		}
	}
	slices.Sort(cpus)
	return cpus, nil
}
