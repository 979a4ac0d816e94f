package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vmm/bench/cgroup"
	"vmm/bench/environ"
	"vmm/bench/phases"
	"vmm/bench/result"
	"vmm/bench/runtime"
)

// trial is a part of the run that is done as a whole or not at all.
type trial struct {
	id      string
	suite   string
	subject *subject
	// starts is how many instances it starts, one after the other or as much work
	// at once; seconds what it takes beside. That is for the time left, and for
	// what --limit leaves out.
	starts, seconds float64
	bounded         bool // it keeps to --limit itself, and says something from two starts on
	last            bool // it empties the page cache, which is not for the others to find
	run             func(ctx context.Context, r *recorder) error
}

// recorder takes what a trial finds.
type recorder struct {
	trial *trial
	out   result.Outcome
}

func (r *recorder) sample(metric string, x float64, index int, value float64) {
	r.out.Samples = append(r.out.Samples, result.Sample{
		Trial: r.trial.id, Suite: r.trial.suite, Runtime: r.trial.subject.Name, App: r.trial.subject.app.Name,
		Metric: metric, X: x, Index: index, Value: value,
	})
}

func (r *recorder) seconds(metric string, x float64, index int, d time.Duration) {
	r.sample(metric, x, index, d.Seconds())
}

func (r *recorder) fact(name, value string) {
	r.out.Facts = append(r.out.Facts, result.Fact{
		Trial: r.trial.id, Suite: r.trial.suite, Runtime: r.trial.subject.Name, App: r.trial.subject.app.Name, Name: name, Value: value,
	})
}

func (r *recorder) fail(err error) {
	r.out.Failures = append(r.out.Failures, result.Failure{
		Trial: r.trial.id, Suite: r.trial.suite, Runtime: r.trial.subject.Name, App: r.trial.subject.app.Name, Message: oneLine(err),
	})
}

// measure does what the options ask for, inside.
func measure(ctx context.Context, in inside, tree *cgroup.Tree) (err error) {
	o, scratch := in.Options, in.Scratch
	h := &host{options: o, scratch: scratch, tree: tree, took: map[*subject][]float64{}}
	apps, err := o.applications(scratch)
	if err != nil {
		return err
	}
	subjects := find(o, apps)
	if err := anyFound(subjects); err != nil {
		return err
	}
	h.tracer, err = phases.New(filepath.Join(scratch, "tracing"), in.Name, in.Killed)
	if err != nil {
		fmt.Fprintf(stderr(), "vmm: no phases of a start, only its end: %v\n", err)
	} else {
		defer func() { err = errors.Join(err, h.tracer.Close()) }()
	}
	run := &result.Run{Version: result.Version, Started: time.Now().UTC(), Config: o.Config, Environment: environ.Collect(tree)}
	for _, a := range apps {
		if !slices.Contains(run.Config.Apps, a.Name) {
			run.Config.Apps = append(run.Config.Apps, a.Name)
		}
	}
	for _, s := range subjects {
		run.Subjects = append(run.Subjects, s.result(o.Assets))
	}
	var done map[string]time.Duration
	if o.Resume {
		before, err := result.Load(o.Dir)
		if err != nil {
			return err
		}
		run.Started = before.Started
		run.Widen(before)
		if done, err = result.ReadLog(o.Dir, run); err != nil {
			return err
		}
		for _, s := range subjects {
			h.took[s] = run.Values("start", s.result(o.Assets), "http", 1)
		}
	}
	log, err := result.OpenLog(o.Dir)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := run.Save(o.Dir); err != nil {
		return err
	}
	if h.options.Timeout == 0 {
		h.options.Timeout = time.Minute
		if run.Environment.Host == result.Emulated {
			h.options.Timeout *= 3
		}
	}
	if c := run.Environment.Caution(); c != "" {
		fmt.Fprintln(stderr(), "vmm:", c)
	}
	interrupted := h.all(ctx, h.plan(subjects), done, log, run)
	run.Finished, run.Complete = time.Now().UTC(), interrupted == nil
	if err := errors.Join(interrupted, run.Save(o.Dir)); err != nil {
		return err
	}
	if len(run.Samples) == 0 && len(run.Failures) > 0 {
		return fmt.Errorf("nothing was measured: every trial failed, the first with: %s", run.Failures[0].Message)
	}
	return nil
}

// anyFound fails when there is nothing to measure, and says how to get what is
// missing, and for which runtimes.
func anyFound(subjects []*subject) error {
	var ways []string
	runtimes := map[string][]string{}
	for _, s := range subjects {
		if s.missing == nil {
			return nil
		}
		way := s.missing.Error()
		if m := (runtime.Missing{}); errors.As(s.missing, &m) {
			way = m.Get
		}
		if !slices.Contains(ways, way) {
			ways = append(ways, way)
		}
		if !slices.Contains(runtimes[way], s.Name) {
			runtimes[way] = append(runtimes[way], s.Name)
		}
	}
	text := "nothing can be measured here; what is missing, and how to get it:"
	for _, way := range ways {
		text += "\n" + strings.Join(runtimes[way], ", ") + ": " + way
	}
	return errors.New(text)
}

// find makes the subjects, and looks for what each needs.
func find(o Options, apps []runtime.App) []*subject {
	var all []*subject
	for _, name := range o.Runtimes {
		for _, app := range apps {
			s := &subject{Runtime: runtime.New(name, runtime.Assets(o.Assets), app), app: app}
			s.Description = s.Describe()
			if s.version, s.missing = s.Find(); s.missing == nil {
				s.files, s.missing = runtime.ResultFiles(s.Files())
			}
			all = append(all, s)
		}
	}
	return all
}

// plan lists the trials: suite after suite, and within a suite in random order, so
// that what changes on the host meanwhile meets all subjects alike.
func (h *host) plan(subjects []*subject) []*trial {
	var found []*subject
	for _, s := range subjects {
		if s.missing == nil {
			found = append(found, s)
		}
	}
	builders := map[string]func(*subject) []*trial{
		"start": h.planStart, "memory": h.planMemory, "rest": h.planRest, "sort": h.planSort,
		"density": h.planDensity, "isolation": h.planIsolation,
	}
	random := rand.New(rand.NewPCG(h.options.Seed, 0))
	var all []*trial
	for _, suite := range Suites {
		if !slices.Contains(h.options.Suites, suite) {
			continue
		}
		var list []*trial
		for _, s := range found {
			for _, t := range builders[suite](s) {
				t.suite, t.subject = suite, s
				t.id = fmt.Sprintf("%s/%s/%s/%s", suite, s.Name, s.app.Name, t.id)
				list = append(list, t)
			}
		}
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		list = smallFirst(list)
		slices.SortStableFunc(list, func(a, b *trial) int { return cmp.Compare(btoi(a.last), btoi(b.last)) })
		all = append(all, list...)
	}
	return all
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// smallFirst gives each subject's turns to its smallest trials first: what --limit
// leaves out are then the largest.
func smallFirst(list []*trial) []*trial {
	of := map[*subject][]*trial{}
	for _, t := range list {
		of[t.subject] = append(of[t.subject], t)
	}
	for _, own := range of {
		slices.SortStableFunc(own, func(a, b *trial) int { return cmp.Compare(a.starts, b.starts) })
	}
	ordered := make([]*trial, len(list))
	for i, t := range list {
		ordered[i], of[t.subject] = of[t.subject][0], of[t.subject][1:]
	}
	return ordered
}

// all does the trials that are not done, and adds what they find to run. The
// error is that of an interruption: what goes wrong in a trial is its result.
func (h *host) all(ctx context.Context, trials []*trial, done map[string]time.Duration, log *result.Log, run *result.Run) error {
	total := 0.0
	for _, t := range trials {
		total += t.weight()
	}
	spent := map[spending]time.Duration{}
	bar := newProgress(total)
	defer bar.finish()
	for _, t := range trials {
		on := spending{t.suite, t.subject}
		if took, ok := done[t.id]; ok {
			spent[on] += took
		} else {
			bar.begin(t.id)
			if t.suite != "start" && h.tracer != nil {
				if err := h.tracer.Rest(); err != nil {
					return err
				}
			}
			r := &recorder{trial: t, out: result.Outcome{Trial: t.id}}
			begun := time.Now()
			err := h.affordable(t, spent[on])
			if err == nil {
				err = t.run(ctx, r)
				r.out.Took = time.Since(begun)
				spent[on] += r.out.Took
			}
			if ctx.Err() != nil {
				return Interrupted{h.options.Dir}
			}
			if err != nil {
				r.fail(err)
				bar.say(fmt.Sprintf("vmm: %s: %v", t.id, oneLine(err)))
			}
			if err := log.Trial(r.out); err != nil {
				return err
			}
			run.Add(r.out)
		}
		bar.end(t.weight())
	}
	return nil
}

// weight of a trial in the whole run: that of a start, in which a distribution
// takes many times as long as anything else, or of a second of load.
func (t *trial) weight() float64 {
	if t.subject.Heavy {
		return 10*t.starts + t.seconds
	}
	return t.starts + t.seconds
}

// spending is what --limit is for: a subject's trials of a suite.
type spending struct {
	suite   string
	subject *subject
}

// affordable tells whether a trial fits into the time that is left for its
// subject's of the suite. Where it is not known yet how long a start takes, one is
// tried.
func (h *host) affordable(t *trial, spent time.Duration) error {
	one := h.expectedStart(t.subject)
	takes := time.Duration(t.starts*float64(one) + t.seconds*float64(time.Second))
	if t.bounded {
		takes = min(takes, 2*one)
	}
	if one == 0 && t.starts <= 1 || spent+takes <= h.options.Limit {
		return nil
	}
	return notTried(fmt.Sprintf("its trials of this suite take more than --limit %v", h.options.Limit))
}

// Interrupted is the error of a run that was ended before its end.
type Interrupted struct{ Dir string }

func (i Interrupted) Error() string {
	return fmt.Sprintf("interrupted; what was measured is in %s: 'vmm bench run --resume -o %s' goes on", i.Dir, i.Dir)
}

// List looks for all runtimes, with each of the built-in applications.
func List(assets string) []result.Subject {
	var all []result.Subject
	for _, s := range find(Options{Config: result.Config{Runtimes: runtime.Names}, Assets: assets}, runtime.BuiltIn) {
		all = append(all, s.result(assets))
	}
	return all
}
