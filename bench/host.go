package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vmm/bench/cgroup"
	"vmm/bench/load"
	"vmm/bench/netlab"
	"vmm/bench/phases"
	"vmm/bench/result"
	"vmm/bench/runtime"
)

// subject is a runtime with an application in it.
type subject struct {
	runtime.Runtime
	runtime.Description
	app     runtime.App
	version string
	missing error
	files   []result.File
}

// result describes the subject. Its files are named as in the folder of assets:
// where that is, is the host's own business.
func (s *subject) result(assets string) result.Subject {
	r := result.Subject{Runtime: s.Name, App: s.app.Name, Version: s.version, Kind: string(s.Kind), Confined: s.Confined, Files: slices.Clone(s.files)}
	for i, f := range r.Files {
		if name, err := filepath.Rel(assets, f.Path); err == nil && filepath.IsLocal(name) {
			r.Files[i].Path = name
		} else {
			r.Files[i].Path = filepath.Base(f.Path)
		}
	}
	if s.missing != nil {
		r.Missing = s.missing.Error()
	}
	return r
}

// host is where instances are started.
type host struct {
	options Options
	scratch string
	tree    *cgroup.Tree
	tracer  *phases.Tracer // nil where the kernel has none
	next    atomic.Int64   // number of the last instance

	mu   sync.Mutex
	took map[*subject][]float64 // by starts one at a time, in seconds
}

// wish is what is special about an instance to start.
type wish struct {
	memory int64
	wrap   []string
}

// running is an instance that was started, and all that belongs to it.
type running struct {
	*runtime.Instance
	subject *subject
	group   cgroup.Group
	dir     string
	end     *netlab.Endpoint
	network time.Duration // it took to make its network devices
	memory  int64         // of a machine
	wrapped bool
}

// place is where an instance will run.
type place struct {
	spec    runtime.Spec
	network time.Duration
}

// prepare makes what an instance needs around it: a folder, a cgroup, a network
// device. That is not part of its start, for none of the runtimes.
func (h *host) prepare(s *subject, w wish) (*place, error) {
	i := int(h.next.Add(1))
	spec := runtime.Spec{
		Name: fmt.Sprintf("bench-%d", i), Tree: h.tree, Memory: w.memory, CPUs: h.options.WorkCPUs, Wrap: w.wrap,
		Port: netlab.Port(i),
	}
	spec.Dir = filepath.Join(h.scratch, strconv.Itoa(i))
	if err := os.Mkdir(spec.Dir, 0o700); err != nil {
		return nil, err
	}
	p := &place{spec: spec}
	var err error
	if p.spec.Group, err = h.tree.Group(spec.Name); err != nil {
		return nil, errors.Join(err, p.close())
	}
	begin := time.Now()
	switch slot := i % netlab.MaxInstances; s.Link {
	case runtime.LinkTap:
		p.spec.Endpoint, err = netlab.NewTap(slot)
	case runtime.LinkVeth:
		p.spec.Endpoint, err = netlab.NewNamespace(slot, h.scratch)
	case runtime.LinkAddress:
		p.spec.Endpoint, err = netlab.NewAddress(slot)
	case runtime.LinkHost:
	}
	p.network = time.Since(begin)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *place) close() error {
	var errs []error
	if p.spec.Endpoint != nil {
		errs = append(errs, p.spec.Endpoint.Close())
	}
	if p.spec.Group.Path != "" {
		errs = append(errs, p.spec.Group.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(p.spec.Dir))...)
}

// start starts an instance in its place. An error leaves nothing behind.
func (h *host) start(s *subject, p *place) (*running, error) {
	i, err := s.Start(p.spec)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	memory := s.Memory
	if p.spec.Memory > 0 && memory > 0 {
		memory = p.spec.Memory
	}
	return &running{
		Instance: i, subject: s, group: p.spec.Group, dir: p.spec.Dir, end: p.spec.Endpoint, network: p.network, memory: memory,
		wrapped: len(p.spec.Wrap) > 0,
	}, nil
}

// patience is how long a start of the subject may take.
func (h *host) patience(s *subject) time.Duration {
	if s.Heavy {
		return 4 * h.options.Timeout
	}
	return h.options.Timeout
}

// every is how often each of n instances that start at once is asked whether it is
// ready: to answer is work, too, and all that their processors had to do if there
// were many.
func (h *host) every(n int) time.Duration {
	each := len(h.options.WorkCPUs)
	return load.Interval * time.Duration((n+each-1)/each)
}

// ready waits until the instance, one of n that start at once, answers.
func (h *host) ready(ctx context.Context, r *running, n int, patience time.Duration) (load.Ready, error) {
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w := load.Wait{Addr: r.Addr, Path: r.subject.app.Path, Each: h.every(n), Gone: r.gone()}
	if r.end != nil {
		w.Heard = r.end.Heard
	}
	ready, err := w.Ready(wait)
	switch {
	case err == nil:
		if !r.wrapped { // the command that would have ended waits for all that it has started
			select {
			case <-r.Settled():
			case <-ctx.Done():
				return ready, ctx.Err()
			}
		}
		if r.end != nil {
			err = r.end.Serving()
		}
		return ready, err
	case ctx.Err() != nil:
		return ready, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return ready, fmt.Errorf("not ready within %v: nobody answered at %s%s", patience, r.Addr, r.Output())
	}
	select {
	case <-r.Exited():
		if r.Err() != nil {
			return ready, r.Err()
		}
	default:
	}
	return ready, err
}

// gone is closed when the instance has ended.
func (r *running) gone() <-chan struct{} { return r.Exited() }

// up starts an instance and waits until it answers.
func (h *host) up(ctx context.Context, s *subject, w wish) (*running, load.Ready, error) {
	p, err := h.prepare(s, w)
	if err != nil {
		return nil, load.Ready{}, err
	}
	r, err := h.start(s, p)
	if err != nil {
		return nil, load.Ready{}, err
	}
	ready, err := h.ready(ctx, r, 1, h.patience(s))
	if err != nil {
		return nil, ready, errors.Join(err, r.close())
	}
	h.remember(s, ready.At.Sub(r.Started))
	return r, ready, nil
}

// grace is how long an instance may take to end when it is asked to.
const grace = 10 * time.Second

// down ends an instance and removes what there is of it, and says how long each
// took.
func (r *running) down() (stop, teardown time.Duration, err error) {
	begin := time.Now()
	err = r.Stop(grace)
	stop = time.Since(begin)
	begin = time.Now()
	err = errors.Join(err, r.close())
	return stop, time.Since(begin), err
}

// close removes all that there is of it.
func (r *running) close() error {
	err := r.Close()
	p := place{spec: runtime.Spec{Endpoint: r.end, Group: r.group, Dir: r.dir}}
	return errors.Join(err, p.close())
}

// dropCaches empties the host's page cache. What was written stays only once it is
// on disk.
func dropCaches() error {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return fmt.Errorf("empty the page cache: %w", err)
	}
	return nil
}

// oneLine makes a message fit a row.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
