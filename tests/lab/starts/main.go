// Starts counts the starts of machines that are lost: it starts an application in
// a virtual machine, as 'vmm bench' does, so many at once, waits until each has
// answered, and ends them; for a number of rounds. Of one that does not answer, or
// that ends, it keeps all that it printed. It makes a network and cgroups as it
// goes: run it in the lab, in a network namespace of its own. See counts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vmm/bench/cgroup"
	"vmm/bench/load"
	"vmm/bench/netlab"
	"vmm/bench/runtime"
	"vmm/bench/stats"
)

// patience is how long a machine may take to answer. Ten at once take a lab of two
// processors half a minute.
const patience = 3 * time.Minute

// counter starts machines of one kind.
type counter struct {
	runtime runtime.Runtime
	app     runtime.App
	tree    *cgroup.Tree
	scratch string
	keep    string // where to put what the lost ones printed
	next    atomic.Int64
}

func main() {
	assets := flag.String("assets", "", "`folder` with what guest-images/bench has built")
	name := flag.String("runtime", "vm", "what to start: vm, vm-shared or qemu-microvm")
	rounds := flag.Int("rounds", 1, "rounds")
	atOnce := flag.Int("at-once", 1, "machines started in each")
	beside := flag.Int("beside", 0, "machines that are started before the rounds, and idle beside them; what each asks of its host is said")
	keep := flag.String("keep", ".", "`folder` for what lost machines printed")
	flag.Parse()
	lost, err := count(*name, *assets, *keep, *rounds, *atOnce, *beside)
	if err != nil {
		fmt.Fprintln(os.Stderr, "starts:", err)
		os.Exit(2)
	}
	fmt.Printf("%s: %d starts, %d at once: %d lost\n", *name, *rounds**atOnce, *atOnce, lost)
	if lost > 0 {
		os.Exit(1)
	}
}

func count(name, assets, keep string, rounds, atOnce, beside int) (lost int64, err error) {
	tree, err := cgroup.New(fmt.Sprintf("starts-%d", os.Getpid()), nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	if err := netlab.Setup(); err != nil {
		return 0, err
	}
	scratch, err := os.MkdirTemp("", "starts-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(scratch)
	app := runtime.BuiltIn[1] // in C: it starts sooner
	c := &counter{runtime: runtime.New(name, runtime.Assets(assets), app), app: app, tree: tree, scratch: scratch, keep: keep}
	if c.runtime == nil {
		return 0, fmt.Errorf("there is no runtime %q", name)
	}
	if _, err := c.runtime.Find(); err != nil {
		return 0, err
	}
	var resting []cgroup.Group
	var watcher *idle
	for range beside {
		group, end, err := c.start()
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, end()) }()
		resting = append(resting, group)
	}
	if beside > 0 {
		time.Sleep(settled)
		if watcher, err = watch(resting); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, watcher.Close()) }()
		time.Sleep(watched)
		if err := tell(name, watcher); err != nil {
			return 0, err
		}
	}
	var took []float64
	for round := range rounds {
		begin := time.Now()
		var lostNow atomic.Int64
		var starts sync.WaitGroup
		for range atOnce {
			starts.Go(func() {
				_, end, err := c.start()
				if err == nil {
					err = end()
				}
				if err != nil {
					lostNow.Add(1)
					fmt.Printf("%s: lost in round %d: %v\n", name, round, strings.Join(strings.Fields(err.Error()), " "))
				}
			})
		}
		starts.Wait()
		took = append(took, time.Since(begin).Seconds())
		lost += lostNow.Load()
		fmt.Printf("%s: round %d of %d: %.1f s, %d lost so far\n", name, round+1, rounds, time.Since(begin).Seconds(), lost)
		if watcher != nil {
			if err := tell(name, watcher); err != nil {
				return 0, err
			}
		}
	}
	fmt.Printf("%s: beside %d, %d at once: a round takes %.2f s (median)\n", name, beside, atOnce, stats.Quantile(took, 0.5))
	return lost, nil
}

// tell says what idle machines have done.
func tell(name string, w *idle) error {
	what, err := w.look()
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s\n", name, what)
	return nil
}

// settled is how long a machine takes to come to rest after it has answered.
const settled = 10 * time.Second

// start starts a machine in a cgroup, and waits until it answers. end ends it.
func (c *counter) start() (group cgroup.Group, end func() error, err error) {
	var undo []func() error
	end = func() (err error) {
		for _, f := range slices.Backward(undo) {
			err = errors.Join(err, f())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, end())
		}
	}()
	n := int(c.next.Add(1))
	id := fmt.Sprintf("start-%d", n)
	spec := runtime.Spec{Name: id, Tree: c.tree, Dir: filepath.Join(c.scratch, id)}
	if err := os.Mkdir(spec.Dir, 0o700); err != nil {
		return spec.Group, end, err
	}
	undo = append(undo, func() error { return os.RemoveAll(spec.Dir) })
	if spec.Group, err = c.tree.Group(id); err != nil {
		return spec.Group, end, err
	}
	undo = append(undo, spec.Group.Close)
	if spec.Endpoint, err = netlab.NewTap(n % netlab.MaxInstances); err != nil {
		return spec.Group, end, err
	}
	undo = append(undo, spec.Endpoint.Close)
	i, err := c.runtime.Start(spec)
	if err != nil {
		return spec.Group, end, err
	}
	undo = append(undo, i.Close, func() error {
		err := i.Stop(10 * time.Second)
		if err != nil {
			err = errors.Join(err, c.keepOutput(spec))
		}
		return err
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	wait := load.Wait{Addr: i.Addr, Path: c.app.Path, Each: 20 * time.Millisecond, Gone: i.Exited(), Heard: spec.Endpoint.Heard}
	if _, err = wait.Ready(ctx); err != nil {
		return spec.Group, end, errors.Join(fmt.Errorf("%s does not answer: %w", id, err), c.keepOutput(spec))
	}
	return spec.Group, end, nil
}

// keepOutput keeps what a machine has printed.
func (c *counter) keepOutput(spec runtime.Spec) error {
	output, err := os.ReadFile(filepath.Join(spec.Dir, "output"))
	return errors.Join(err, os.WriteFile(filepath.Join(c.keep, spec.Name+".log"), output, 0o644))
}
