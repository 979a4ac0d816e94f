package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmm/bench/load"
)

// connections of the closed loop: enough to keep a server busy while answers are
// on their way.
const connections = 16

func (h *host) planRest(s *subject) []*trial {
	var all []*trial
	for i := range h.repeats() {
		all = append(all, &trial{
			id: fmt.Sprint(i), starts: 1, seconds: h.options.Seconds * float64(1+len(h.options.Rates)),
			run: func(ctx context.Context, r *recorder) error { return h.trialRest(ctx, r, s) },
		})
	}
	return all
}

// trialRest takes requests a second, and latency at fixed rates.
func (h *host) trialRest(ctx context.Context, r *recorder, s *subject) (err error) {
	i, _, err := h.up(ctx, s, wish{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.close()) }()
	d := time.Duration(h.options.Seconds * float64(time.Second))
	cpus := len(h.options.ClientCPUs)
	path := s.app.Path

	load.Closed(ctx, i.Addr, path, connections, d/5, cpus) // to warm up
	t := load.Closed(ctx, i.Addr, path, connections, d, cpus)
	if t.PerSecond == 0 {
		return errors.Join(fmt.Errorf("no request of %d was answered", t.Failed), died(i))
	}
	r.sample("requests", connections, 0, t.PerSecond)
	r.sample("client_cpu", connections, 0, t.ClientCPU)
	if t.Failed > 0 {
		r.fail(fmt.Errorf("%d requests of the closed loop failed", t.Failed))
	}
	for _, rate := range h.options.Rates {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		x := float64(rate)
		if x > t.PerSecond {
			r.fail(notTried(fmt.Sprintf("a rate of %d requests a second: it answers %.0f", rate, t.PerSecond)))
			continue
		}
		l := load.Open(ctx, i.Addr, path, rate, d)
		r.sample("success", x, 0, l.Success)
		if l.Success == 0 {
			return errors.Join(fmt.Errorf("no request of %d a second was answered", rate), died(i))
		}
		r.seconds("latency_p50", x, 0, l.P50)
		r.seconds("latency_p90", x, 0, l.P90)
		r.seconds("latency_p99", x, 0, l.P99)
		r.seconds("latency_max", x, 0, l.Max)
	}
	return died(i)
}

// died is how an instance ended that should not have; nil while it runs.
func died(i *running) error {
	select {
	case <-i.Exited():
		return fmt.Errorf("it ended while it was measured: %w", i.Err())
	default:
		return nil
	}
}

func (h *host) planSort(s *subject) []*trial {
	if !s.app.Sorts {
		return nil
	}
	var all []*trial
	for i := range h.repeats() {
		all = append(all, &trial{
			id: fmt.Sprint(i), starts: 1, seconds: float64(len(h.options.SortSizes)),
			run: func(ctx context.Context, r *recorder) error { return h.trialSort(ctx, r, s) },
		})
	}
	return all
}

// sorts is how often an array of a size is sorted.
const sorts = 3

func (h *host) trialSort(ctx context.Context, r *recorder, s *subject) (err error) {
	i, _, err := h.up(ctx, s, wish{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.close()) }()
	ctx, cancel := context.WithTimeout(ctx, h.options.Limit)
	defer cancel()
	for _, n := range h.options.SortSizes {
		for k := range sorts {
			took, err := load.Sort(ctx, i.Addr, n)
			if err != nil {
				return errors.Join(err, died(i))
			}
			r.seconds("sort", float64(n), k, took)
		}
	}
	return nil
}
