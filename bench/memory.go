package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"vmm/bench/load"
	"vmm/bench/runtime"
	"vmm/bench/usage"
)

// instances is how many run when the memory of one more is taken: the first has
// what they share counted as its own. Of a whole distribution two have to do.
func (s *subject) instances() int {
	if s.Heavy {
		return 2
	}
	return 3
}

// repeats is how often trials are repeated that take several starts or some time
// each: a third as often as starts.
func (h *host) repeats() int { return max(1, h.options.N/3) }

func (h *host) planMemory(s *subject) []*trial {
	var all []*trial
	for i := range h.repeats() {
		all = append(all, &trial{
			id: fmt.Sprintf("marginal/%d", i), starts: float64(s.instances()),
			run: func(ctx context.Context, r *recorder) error { return h.trialMarginal(ctx, r, s) },
		})
	}
	return append(all, &trial{
		id: "minimum", starts: 8, bounded: true,
		run: func(ctx context.Context, r *recorder) error { return h.trialMinimum(ctx, r, s) },
	})
}

// total is what some instances take together.
type total struct {
	usage.Memory
	cgroup, available int64
}

func measureTotal(list []*running, tree bool) (total, error) {
	var t total
	for _, i := range list {
		pids, err := i.processes()
		if err != nil {
			return t, err
		}
		m, err := usage.Of(pids, i.memory)
		if err != nil {
			return t, err
		}
		t.Add(m)
		if tree {
			n, err := i.group.Memory()
			if err != nil {
				return t, err
			}
			t.cgroup += n
		}
	}
	var err error
	t.available, err = usage.Available()
	return t, err
}

// processes are those of an instance: all in its cgroup, and above its workload
// those that an engine runs for it alone (conmon, containerd's shim).
func (r *running) processes() ([]int, error) {
	all, err := r.group.Processes()
	if err != nil {
		return nil, err
	}
	shared := []int{0, 1, os.Getpid()}
	if d, ok := r.subject.Runtime.(runtime.Served); ok {
		shared = append(shared, d.Daemons()...)
	}
	for pid := r.Main(); ; {
		if pid, err = usage.Parent(pid); errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || slices.Contains(shared, pid) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, pid) {
			all = append(all, pid)
		}
	}
}

// settling is how long an instance is left alone before its memory is taken.
const settling = 300 * time.Millisecond

// trialMarginal takes what one more instance adds to those that run.
func (h *host) trialMarginal(ctx context.Context, r *recorder, s *subject) (err error) {
	instances := s.instances()
	if err := fits(s, instances); err != nil {
		return err
	}
	var list []*running
	defer func() {
		for _, i := range list {
			err = errors.Join(err, i.close())
		}
	}()
	var first total
	for n := 1; n <= instances; n++ {
		i, _, err := h.up(ctx, s, wish{})
		if err != nil {
			return err
		}
		list = append(list, i)
		if n == 1 {
			time.Sleep(settling)
			if first, err = measureTotal(list, h.tree.Memory); err != nil {
				return err
			}
		}
	}
	time.Sleep(settling)
	last, err := measureTotal(list, h.tree.Memory)
	if err != nil {
		return err
	}
	x := float64(instances)
	more := func(metric string, first, last int64) {
		r.sample(metric, x, 0, float64(last-first)/float64(instances-1))
	}
	more("pss", first.PSS, last.PSS)
	more("private_dirty", first.PrivateDirty, last.PrivateDirty)
	more("rss", first.RSS, last.RSS)
	more("page_tables", first.PageTables, last.PageTables)
	more("system", last.available, first.available)
	if s.Memory > 0 {
		more("outside_guest", first.OutsideGuest, last.OutsideGuest)
	}
	if h.tree.Memory {
		more("cgroup", first.cgroup, last.cgroup)
	}
	return nil
}

// smallest is how exactly the smallest memory is found.
const smallest = 1 << 20

// trialMinimum finds the smallest memory in which the subject starts, serves and
// sorts, by bisection. A size that works is tried once; one that does not, too:
// near the border luck decides, within a step.
func (h *host) trialMinimum(ctx context.Context, r *recorder, s *subject) error {
	if !h.tree.Memory && s.Memory == 0 {
		return notTried("the memory of processes cannot be bounded: no cgroup controller for it")
	}
	high := s.Memory
	if high == 0 {
		high = 64 << 20
	}
	step := int64(smallest)
	if s.Heavy {
		step *= 16
	}
	begin := time.Now()
	if err := h.serves(ctx, s, high, h.patience(s)); err != nil {
		return fmt.Errorf("it does not serve in %d MiB: %w", high>>20, err)
	}
	took := time.Since(begin)
	low := int64(0) // does not work
	for high-low > step {
		if time.Since(begin)+took > h.options.Limit {
			return fmt.Errorf("the smallest memory is more than %d and at most %d MiB: no time left to find it, --limit %v", low>>20, high>>20, h.options.Limit)
		}
		middle := (low + high) / 2 / step * step
		if middle == low {
			break
		}
		err := h.serves(ctx, s, middle, 3*took+time.Second)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			low = middle
		} else {
			high = middle
		}
	}
	r.sample("minimum", 0, 0, float64(high))
	return nil
}

// serves tells whether the subject starts and serves with some memory.
func (h *host) serves(ctx context.Context, s *subject, memory int64, patience time.Duration) (err error) {
	p, err := h.prepare(s, wish{memory: memory})
	if err != nil {
		return err
	}
	i, err := h.start(s, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.close()) }()
	if _, err := h.ready(ctx, i, 1, patience); err != nil {
		return err
	}
	if !s.app.Sorts {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = load.Sort(ctx, i.Addr, 100)
	return err
}

func available() (int64, error) { return usage.Available() }
