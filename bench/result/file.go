package result

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"vmm/untrusted"
)

// The files of a run's folder.
const (
	JSONFile = "results.json"
	CSVFile  = "samples.csv"
)

// header is the first line of samples.csv. A line is a sample; or a failure or a
// fact, whose text is in the last column and whose metric is "failure" or
// "fact:" and its name; or, with the metric "done", the end of a trial, with the
// seconds that it took.
var header = []string{"trial", "suite", "runtime", "app", "metric", "x", "index", "value", "unit", "text"}

const (
	failureMetric = "failure"
	factPrefix    = "fact:"
	doneMetric    = "done"
)

// Log appends what is measured to samples.csv as it comes, so that nothing is
// lost, however the run ends.
type Log struct {
	f *os.File
	w *csv.Writer
}

// OpenLog opens the log of a run's folder, and makes it where there is none.
func OpenLog(dir string) (*Log, error) {
	f, err := os.OpenFile(filepath.Join(dir, CSVFile), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	l := &Log{f: f, w: csv.NewWriter(f)}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && end == 0 {
		err = l.write(header)
	} else if err == nil {
		err = cutTorn(f, end)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return l, nil
}

// cutTorn removes a last line without an end, which a run that was killed left.
func cutTorn(f *os.File, end int64) error {
	last := make([]byte, 4096)
	if end < int64(len(last)) {
		last = last[:end]
	}
	if _, err := f.ReadAt(last, end-int64(len(last))); err != nil {
		return err
	}
	for i := len(last) - 1; i >= 0; i-- {
		if last[i] == '\n' {
			return f.Truncate(end - int64(len(last)-1-i))
		}
	}
	return errors.New("its last line is longer than any that was written here")
}

func (l *Log) write(records ...[]string) error {
	if err := l.w.WriteAll(records); err != nil {
		return err
	}
	return l.f.Sync()
}

// Trial appends all that a trial has found, and that it is done.
func (l *Log) Trial(t Outcome) error {
	var records [][]string
	for _, s := range t.Samples {
		records = append(records, []string{
			s.Trial, s.Suite, s.Runtime, s.App, s.Metric, number(s.X), strconv.Itoa(s.Index), number(s.Value), Metrics[s.Metric].Unit, "",
		})
	}
	for _, f := range t.Failures {
		records = append(records, []string{f.Trial, f.Suite, f.Runtime, f.App, failureMetric, "0", "0", "0", "", f.Message})
	}
	for _, f := range t.Facts {
		records = append(records, []string{f.Trial, f.Suite, f.Runtime, f.App, factPrefix + f.Name, "0", "0", "0", "", f.Value})
	}
	records = append(records, []string{t.Trial, "", "", "", doneMetric, "0", "0", number(t.Took.Seconds()), "s", ""})
	return l.write(records...)
}

// Close closes the log.
func (l *Log) Close() error { return l.f.Close() }

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// Outcome is what a trial has found.
type Outcome struct {
	Trial    string
	Samples  []Sample
	Failures []Failure
	Facts    []Fact
	Took     time.Duration // all of the trial, making and removing what it needs included
}

// ReadLog adds to r what samples.csv holds of the trials that were done, and
// returns how long each took. What a trial that was not done has left is ignored.
func ReadLog(dir string, r *Run) (done map[string]time.Duration, err error) {
	f, err := os.Open(filepath.Join(dir, CSVFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	reader := csv.NewReader(io.LimitReader(f, limits.Bytes))
	reader.FieldsPerRecord = len(header)
	done = map[string]time.Duration{}
	pending := map[string]*Outcome{}
	for line := 1; ; line++ {
		rec, err := reader.Read()
		if err == io.EOF {
			return done, nil
		}
		if err != nil {
			if _, next := reader.Read(); next == io.EOF {
				return done, nil // the last line, torn when the run was killed
			}
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		if line > maxLines {
			return nil, fmt.Errorf("%s: more than %d lines", f.Name(), maxLines)
		}
		if line == 1 {
			if !slices.Equal(rec, header) {
				return nil, fmt.Errorf("%s: not the samples of a run of this version: its columns are %v", f.Name(), rec)
			}
			continue
		}
		t := pending[rec[0]]
		if t == nil {
			t = &Outcome{Trial: rec[0]}
			pending[rec[0]] = t
		}
		switch metric := rec[4]; {
		case metric == doneMetric:
			took, err := strconv.ParseFloat(rec[7], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", f.Name(), line, err)
			}
			done[t.Trial] = time.Duration(took * float64(time.Second))
			r.Add(*t)
			delete(pending, t.Trial)
		case metric == failureMetric:
			t.Failures = append(t.Failures, Failure{rec[0], rec[1], rec[2], rec[3], rec[9]})
		case len(metric) > len(factPrefix) && metric[:len(factPrefix)] == factPrefix:
			t.Facts = append(t.Facts, Fact{rec[0], rec[1], rec[2], rec[3], metric[len(factPrefix):], rec[9]})
		default:
			s := Sample{Trial: rec[0], Suite: rec[1], Runtime: rec[2], App: rec[3], Metric: metric}
			var errs [3]error
			s.X, errs[0] = strconv.ParseFloat(rec[5], 64)
			s.Index, errs[1] = strconv.Atoi(rec[6])
			s.Value, errs[2] = strconv.ParseFloat(rec[7], 64)
			if err := errors.Join(errs[:]...); err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", f.Name(), line, err)
			}
			t.Samples = append(t.Samples, s)
		}
	}
}

// Add adds what a trial has found.
func (r *Run) Add(t Outcome) {
	r.Samples = append(r.Samples, t.Samples...)
	r.Failures = append(r.Failures, t.Failures...)
	r.Facts = append(r.Facts, t.Facts...)
}

// Save writes results.json, all of it or nothing.
func (r *Run) Save(dir string) error {
	r.Summarize()
	r.Samples, r.Failures = orEmpty(r.Samples), orEmpty(r.Failures)
	r.Facts, r.Subjects = orEmpty(r.Facts), orEmpty(r.Subjects)
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, JSONFile)
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// limits are those of results.json, for 400,000 samples, and of the lines of
// samples.csv: a run of a week has less.
var limits = untrusted.Limits{Bytes: 256 << 20, Values: 7_000_000}

const maxLines = 1_000_000

// Load reads the results in a run's folder: results.json, and for a run that did
// not come to its end, samples.csv.
func Load(dir string) (*Run, error) {
	path := filepath.Join(dir, JSONFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no run of 'vmm bench run': %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r Run
	if err := untrusted.JSON(f, limits, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Version != Version {
		return nil, fmt.Errorf("%s: its format is version %d, and this vmm reads version %d", path, r.Version, Version)
	}
	if r.Complete {
		return &r, nil
	}
	// It was interrupted, perhaps before it could write more than its beginning.
	whole := r
	whole.Samples, whole.Failures, whole.Facts = nil, nil, nil
	switch _, err := ReadLog(dir, &whole); {
	case errors.Is(err, fs.ErrNotExist):
		return &r, nil
	case err != nil:
		return nil, err
	}
	whole.Summarize()
	return &whole, nil
}
