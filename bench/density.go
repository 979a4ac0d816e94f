package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmm/bench/load"
	"vmm/bench/stats"
	"vmm/bench/usage"
)

func (h *host) planDensity(s *subject) []*trial {
	return []*trial{{
		id: "0", starts: float64(h.options.Density), bounded: true,
		run: func(ctx context.Context, r *recorder) error { return h.trialDensity(ctx, r, s) },
	}}
}

// asked is how many requests the latency is taken from.
const asked = 100

// trialDensity starts instance after instance, up to the number asked for, until
// no more than --density-reserve of the host's memory is left, or requests to all
// of them take longer than --density-p99.
func (h *host) trialDensity(ctx context.Context, r *recorder, s *subject) (err error) {
	var list []*running
	defer func() {
		for _, i := range list {
			err = errors.Join(err, i.close())
		}
	}()
	none, err := usage.Available()
	if err != nil {
		return err
	}
	begin := time.Now()
	limit := fmt.Sprintf("--density %d", h.options.Density)
	for n := 1; n <= h.options.Density; n++ {
		now, err := usage.Available()
		if err != nil {
			return err
		}
		if now < h.options.DensityReserve<<20+s.Memory {
			limit = fmt.Sprintf("memory: %d MiB are left, --density-reserve %dM", now>>20, h.options.DensityReserve)
			break
		}
		if time.Since(begin) > h.options.Limit {
			limit = "--limit " + h.options.Limit.String()
			break
		}
		i, ready, err := h.up(ctx, s, wish{})
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if err != nil {
			limit = "the next did not start: " + oneLine(err)
			break
		}
		list = append(list, i)
		r.seconds("http_beside", float64(n-1), 0, ready.At.Sub(i.Started))
		if n&(n-1) != 0 && n != h.options.Density {
			continue // powers of two, and the last
		}
		p99, err := askAll(ctx, list)
		if err != nil {
			limit = "one did not answer: " + oneLine(err)
			break
		}
		if err := recordDensity(r, list, none, p99); err != nil {
			return err
		}
		if p99.Seconds() > h.options.DensityP99 {
			limit = fmt.Sprintf("latency: 99th percentile %v, --density-p99 %vs", p99.Round(time.Millisecond), h.options.DensityP99)
			break
		}
	}
	r.sample("density_limit", 0, 0, float64(len(list)))
	r.fact("density", limit)
	return nil
}

func recordDensity(r *recorder, list []*running, none int64, p99 time.Duration) error {
	t, err := measureTotal(list, false)
	if err != nil {
		return err
	}
	n := float64(len(list))
	r.sample("density_sum", n, 0, float64(t.PSS))
	r.sample("density_used", n, 0, float64(none-t.available))
	r.seconds("density_p99", n, 0, p99)
	return nil
}

// askAll is the 99th percentile of the latency of requests to all in turn.
func askAll(ctx context.Context, list []*running) (time.Duration, error) {
	var latencies []float64
	for k := range max(asked, len(list)) {
		i := list[k%len(list)]
		took, err := load.Get(ctx, i.Addr, i.subject.app.Path)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", i.Addr, err)
		}
		latencies = append(latencies, took.Seconds())
	}
	return time.Duration(stats.Quantile(latencies, 0.99) * float64(time.Second)), nil
}
