package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"vmm/bench/load"
	"vmm/bench/phases"
	"vmm/bench/result"
	"vmm/bench/runtime"
	"vmm/bench/stats"
	"vmm/image/tree"
)

// planStart plans starts one at a time, and some at once: as many trials of those
// as it takes for n instances.
func (h *host) planStart(s *subject) []*trial {
	var all []*trial
	for _, parallel := range h.options.Parallel {
		for i := range (h.options.N + parallel - 1) / parallel {
			all = append(all, &trial{
				id: fmt.Sprintf("%d/%d", parallel, i), starts: float64(parallel),
				run: func(ctx context.Context, r *recorder) error { return h.trialStart(ctx, r, s, parallel) },
			})
		}
	}
	if again, ok := s.Runtime.(runtime.Rebuilder); ok {
		for i := range h.repeats() {
			all = append(all, &trial{
				id: fmt.Sprintf("rebuild/%d", i), starts: 2,
				run: func(ctx context.Context, r *recorder) error { return h.trialRebuild(ctx, r, s, again) },
			})
		}
	}
	return append(all, &trial{
		id: "read", starts: 1, last: true,
		run: func(ctx context.Context, r *recorder) error { return h.trialRead(ctx, r, s) },
	})
}

// trialRebuild takes the time from a changed source to the first response: what it
// costs to add a function to the application, or to leave one out.
func (h *host) trialRebuild(ctx context.Context, r *recorder, s *subject, again runtime.Rebuilder) (err error) {
	dir, err := os.MkdirTemp(h.scratch, "again-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	begin := time.Now()
	changed := *s
	if changed.Runtime, err = again.Rebuild(ctx, dir); err != nil {
		return err
	}
	built := time.Since(begin)
	i, ready, err := h.up(ctx, &changed, wish{})
	if err != nil {
		return err
	}
	r.seconds("rebuild", 0, 0, built+ready.At.Sub(i.Started))
	return i.close()
}

// trialRead finds out how much of what an instance is started from is really read:
// what of it is in the page cache after a start with an empty one.
func (h *host) trialRead(ctx context.Context, r *recorder, s *subject) error {
	if _, err := exec.LookPath("fincore"); err != nil {
		return notTried("what a start reads: fincore is not installed (Debian: apt-get install util-linux-extra)")
	}
	if err := dropCaches(); err != nil {
		return err
	}
	i, _, err := h.up(ctx, s, wish{})
	if err != nil {
		return err
	}
	read, err := inPageCache(s.files)
	if err := errors.Join(err, i.close()); err != nil {
		return err
	}
	r.sample("read", 0, 0, float64(read))
	return nil
}

// inPageCache is how many bytes of files the page cache holds.
func inPageCache(files []result.File) (int64, error) {
	var c cached
	for _, f := range files {
		if err := c.add(f.Path); err != nil {
			return 0, errors.Join(err, c.look())
		}
	}
	err := c.look()
	return c.sum, err
}

// cached adds up what the page cache holds of files, some of them at a time.
type cached struct {
	open []*os.File
	sum  int64
}

// atOnce is how many files are looked at at once.
const atOnce = 100

func (c *cached) add(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil || !info.IsDir() {
		return errors.Join(err, c.file(file))
	}
	file.Close()
	t, err := tree.Open(path)
	if err != nil {
		return err
	}
	defer t.Close()
	return t.Files(c.file)
}

func (c *cached) file(f *os.File) error {
	if c.open = append(c.open, f); len(c.open) < atOnce {
		return nil
	}
	return c.look()
}

// look asks fincore, which is given descriptors: a name may be anything.
func (c *cached) look() error {
	if len(c.open) == 0 {
		return nil
	}
	args := []string{"fincore", "--bytes", "--noheadings", "--raw", "--output", "RES"}
	for i := range c.open {
		args = append(args, fmt.Sprintf("/proc/self/fd/%d", 3+i))
	}
	cmd := runtime.Command(context.Background(), args...)
	cmd.ExtraFiles = c.open
	out, err := cmd.Output()
	for _, f := range c.open {
		f.Close()
	}
	c.open = nil
	if err != nil {
		return fmt.Errorf("fincore: %w", err)
	}
	for _, word := range strings.Fields(string(out)) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return fmt.Errorf("fincore: %w", err)
		}
		c.sum += n
	}
	return nil
}

func (h *host) trialStart(ctx context.Context, r *recorder, s *subject, parallel int) error {
	if err := fits(s, parallel); err != nil {
		return err
	}
	if h.options.Cold {
		if err := dropCaches(); err != nil {
			return fmt.Errorf("--cold: %w", err)
		}
	}
	if parallel == 1 {
		return h.startOne(ctx, r, s)
	}
	return h.startMany(ctx, r, s, parallel)
}

// startOne starts one instance, with the host's kernel telling of its phases.
func (h *host) startOne(ctx context.Context, r *recorder, s *subject) error {
	p, err := h.prepare(s, wish{})
	if err != nil {
		return err
	}
	if h.tracer != nil {
		if err := h.tracer.Begin(); err != nil {
			return errors.Join(err, p.close())
		}
	}
	i, err := h.start(s, p)
	if err != nil {
		return err
	}
	ready, err := h.ready(ctx, i, 1, h.patience(s))
	if err != nil {
		return errors.Join(err, i.close())
	}
	http := ready.At.Sub(i.Started)
	h.remember(s, http)
	if h.tracer != nil {
		seen, err := h.tracer.End()
		if err != nil {
			return errors.Join(err, i.close())
		}
		now, err := phases.Now()
		if err != nil {
			return errors.Join(err, i.close())
		}
		record(r, s, seen, now-time.Since(i.Started))
	}
	r.seconds("network", 1, 0, i.network)
	r.seconds("http", 1, 0, http)
	r.seconds("poll", 1, 0, ready.Mean)
	r.seconds("poll_max", 1, 0, ready.Max)
	return h.recordEnd(r, i, 1, 0)
}

// record records what was seen of a start that began at a time of the tracer's
// clock.
func record(r *recorder, s *subject, seen phases.Seen, began time.Duration) {
	init := seen.Init
	if s.Kind == runtime.KindProcess || s.Kind == runtime.KindContainer {
		init = 0
		for _, e := range seen.Execs { // the last is the application: the runtime's own programs come before
			if name := filepath.Base(e.File); name == filepath.Base(s.app.Command()[0]) || name == s.app.Name {
				init = e.At
			}
		}
	} else if seen.Guest > began {
		r.seconds("guest", 1, 0, seen.Guest-began)
	}
	if init > began {
		r.seconds("init", 1, 0, init-began)
	}
}

func (h *host) recordEnd(r *recorder, i *running, x float64, index int) error {
	stop, teardown, err := i.down()
	if err != nil {
		return err
	}
	r.seconds("stop", x, index, stop)
	r.seconds("teardown", x, index, teardown)
	return nil
}

// startMany starts instances at once. One that fails is counted, and the others
// are not.
func (h *host) startMany(ctx context.Context, r *recorder, s *subject, n int) error {
	places := make([]*place, 0, n)
	for range n {
		p, err := h.prepare(s, wish{})
		if err != nil {
			for _, p := range places {
				err = errors.Join(err, p.close())
			}
			return err
		}
		places = append(places, p)
	}
	type end struct {
		i     *running
		ready load.Ready
		err   error
	}
	ends := make([]end, n)
	begin := time.Now()
	var starting sync.WaitGroup
	for k, p := range places {
		starting.Go(func() {
			i, err := h.start(s, p)
			if err != nil {
				ends[k].err = err
				return
			}
			ends[k].i = i
			// All together may take as much longer as there are of them.
			ends[k].ready, ends[k].err = h.ready(ctx, i, n, h.patience(s)+time.Duration(n)*h.expectedStart(s))
		})
	}
	starting.Wait()
	var last time.Time
	var errs []error
	failed := 0
	for k, e := range ends {
		if e.err != nil {
			if failed++; failed == 1 {
				errs = append(errs, e.err)
			}
			if e.i != nil {
				errs = append(errs, e.i.close())
			}
			continue
		}
		x := float64(n)
		r.seconds("network", x, k, e.i.network)
		r.seconds("http", x, k, e.ready.At.Sub(e.i.Started))
		r.seconds("poll", x, k, e.ready.Mean)
		r.seconds("poll_max", x, k, e.ready.Max)
		if e.ready.At.After(last) {
			last = e.ready.At
		}
	}
	for k, e := range ends {
		if e.err == nil {
			errs = append(errs, h.recordEnd(r, e.i, float64(n), k))
		}
	}
	if failed > 0 {
		errs = append([]error{fmt.Errorf("%d of %d started at once failed, the first with", failed, n)}, errs...)
	} else {
		r.seconds("batch", float64(n), 0, last.Sub(begin))
	}
	return errors.Join(errs...)
}

// remember notes how long a start took.
func (h *host) remember(s *subject, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.took[s] = append(h.took[s], d.Seconds())
}

// expectedStart is how long a start takes, as far as that is known.
func (h *host) expectedStart(s *subject) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.took[s]) == 0 {
		return 0
	}
	return time.Duration(stats.Quantile(h.took[s], 0.5) * float64(time.Second))
}

// fits tells whether the host has the memory for n instances of a subject.
func fits(s *subject, n int) error {
	available, err := available()
	if err != nil {
		return err
	}
	if need := int64(n) * s.Memory; n > 1 && need > available*8/10 {
		return notTried(fmt.Sprintf("%d of them have %d MiB of memory, and this host has %d MiB to give", n, need>>20, available>>20))
	}
	return nil
}

// notTried is why a trial was not begun.
type notTried string

func (n notTried) Error() string { return "not tried: " + string(n) }
