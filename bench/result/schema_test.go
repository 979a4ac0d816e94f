package result

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// schema is the part of JSON Schema (draft 2020-12) that docs/bench.schema.json is
// written in.
type schema struct {
	Type                 any               `json:"type"`
	Properties           map[string]schema `json:"properties"`
	Required             []string          `json:"required"`
	Items                *schema           `json:"items"`
	AdditionalProperties any               `json:"additionalProperties"`
	Enum                 []any             `json:"enum"`
	Const                any               `json:"const"`
	Ref                  string            `json:"$ref"`
	Defs                 map[string]schema `json:"$defs"`
	Description          string            `json:"description"`
}

func loadSchema(t *testing.T) schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "bench.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// check returns what of a value is not as the schema says.
func (s schema) check(root schema, at string, v any) []string {
	if s.Ref != "" {
		return root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")].check(root, at, v)
	}
	var wrong []string
	if s.Const != nil && !reflect.DeepEqual(s.Const, v) {
		wrong = append(wrong, at+": not "+jsonText(s.Const))
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		wrong = append(wrong, at+": not one of "+jsonText(s.Enum))
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" {
			return append(wrong, at+": an object, not "+jsonText(s.Type))
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				wrong = append(wrong, at+": no "+name)
			}
		}
		for name, value := range v {
			p, ok := s.Properties[name]
			if !ok {
				if s.AdditionalProperties == false {
					wrong = append(wrong, at+": "+name+" is not described")
				}
				continue
			}
			wrong = append(wrong, p.check(root, at+"."+name, value)...)
		}
	case []any:
		if s.Type != "array" {
			return append(wrong, at+": an array, not "+jsonText(s.Type))
		}
		for _, e := range v {
			wrong = append(wrong, s.Items.check(root, at+"[]", e)...)
		}
	case string:
		if s.Type != "string" && s.Const == nil && len(s.Enum) == 0 {
			wrong = append(wrong, at+": a string, not "+jsonText(s.Type))
		}
	case float64:
		if s.Const == nil && s.Type != "number" && (s.Type != "integer" || v != math.Trunc(v)) {
			wrong = append(wrong, at+": a number, not "+jsonText(s.Type))
		}
	case bool:
		if s.Type != "boolean" {
			wrong = append(wrong, at+": true or false, not "+jsonText(s.Type))
		}
	default:
		wrong = append(wrong, at+": null")
	}
	return wrong
}

func jsonText(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// example is a run with something in every list.
func example() *Run {
	r := &Run{
		Version: Version, Started: time.Unix(1, 0).UTC(), Finished: time.Unix(2, 0).UTC(), Complete: true,
		Config: Config{
			Suites: []string{"start"}, Runtimes: []string{"vm"}, Apps: []string{"rest-c"}, N: 2, Parallel: []int{1}, Rates: []int{50},
			SortSizes: []int{100}, Seconds: 1.5, Density: 3, WorkCPUs: []int{1}, ClientCPUs: []int{0},
		},
		Environment: Environment{Host: Emulated, Mitigations: map[string]string{"meltdown": "Not affected"}, Versions: map[string]string{"go": "go1"}},
		Subjects: []Subject{
			{Runtime: "vm", App: "rest-c", Version: "1", Kind: "virtual machine", Files: []File{{"kernel", "/k", 10, 4096, "ab"}}},
			{Runtime: "docker", App: "rest-c", Kind: "container", Missing: "docker is not installed"},
		},
	}
	r.Add(Outcome{
		Trial:    "start/vm/rest-c/1/0",
		Samples:  []Sample{{"start/vm/rest-c/1/0", "start", "vm", "rest-c", "http", 1, 0, 0.25}, {"start/vm/rest-c/1/0", "start", "vm", "rest-c", "init", 1, 0, 0.2}},
		Failures: []Failure{{"start/vm/rest-c/1/0", "start", "vm", "rest-c", "a message, with \"quotes\"\nand lines"}},
		Facts:    []Fact{{"start/vm/rest-c/1/0", "start", "vm", "rest-c", "kernel", "its own"}},
	})
	return r
}

func TestSavedRunFollowsTheSchema(t *testing.T) {
	dir := t.TempDir()
	if err := example().Save(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, JSONFile))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	s := loadSchema(t)
	for _, wrong := range s.check(s, "run", v) {
		t.Error(wrong)
	}
	// And the check does find what is wrong.
	broken := strings.Replace(string(text), `"value": 0.25`, `"value": "0.25", "more": 1`, 1)
	if err := json.Unmarshal([]byte(broken), &v); err != nil {
		t.Fatal(err)
	}
	if wrong := s.check(s, "run", v); len(wrong) != 2 {
		t.Errorf("a sample with two mistakes: %q", wrong)
	}
}

func TestSchemaNamesEveryMetric(t *testing.T) {
	s := loadSchema(t)
	var named []string
	for _, v := range s.Defs["metric"].Enum {
		named = append(named, v.(string))
	}
	var have []string
	for name := range Metrics {
		have = append(have, name)
	}
	slices.Sort(named)
	slices.Sort(have)
	if diff := cmp.Diff(have, named); diff != "" {
		t.Errorf("the metrics of this program, and of docs/bench.schema.json: %s", diff)
	}
}

func TestResultsSurvive(t *testing.T) {
	dir := t.TempDir()
	want := example()
	if err := want.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s := got.Summary("start", got.Subjects[0], "http", 1); s.N != 1 || s.Median != 0.25 {
		t.Errorf("summary %+v, want a median of 0.25 from one", s)
	}
}

func TestLogKeepsWhatIsDone(t *testing.T) {
	dir := t.TempDir()
	want := example()
	log, err := OpenLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Trial(Outcome{Trial: "start/vm/rest-c/1/0", Samples: want.Samples, Failures: want.Failures, Facts: want.Facts}); err != nil {
		t.Fatal(err)
	}
	log.Close()
	// A run was killed in the middle of the next trial, and of a line.
	path := filepath.Join(dir, CSVFile)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("start/vm/rest-c/1/1,start,vm,rest-c,http,1,0,0.3,s,\nstart/vm/rest-c/1/1,start,vm,re"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if log, err = OpenLog(dir); err != nil {
		t.Fatal(err)
	}
	if err := log.Trial(Outcome{Trial: "start/vm/rest-c/1/2", Took: 1500 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	log.Close()

	var got Run
	done, err := ReadLog(dir, &got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]time.Duration{"start/vm/rest-c/1/0": 0, "start/vm/rest-c/1/2": 1500 * time.Millisecond}, done); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Run{Samples: want.Samples, Failures: want.Failures, Facts: want.Facts}, got); diff != "" {
		t.Error(diff)
	}
}

func TestKilledRunIsReadFromItsLog(t *testing.T) {
	dir := t.TempDir()
	want := example()
	begun := *want
	begun.Complete, begun.Samples, begun.Failures, begun.Facts = false, nil, nil, nil
	if err := begun.Save(dir); err != nil {
		t.Fatal(err)
	}
	log, err := OpenLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Trial(Outcome{Trial: "start/vm/rest-c/1/0", Samples: want.Samples, Failures: want.Failures, Facts: want.Facts}); err != nil {
		t.Fatal(err)
	}
	if _, err := log.f.WriteString("start/vm/rest-c/1/1,sta"); err != nil {
		t.Fatal(err)
	}
	log.Close()
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Samples, got.Samples); diff != "" {
		t.Error(diff)
	}
	if got.Complete || len(got.Summaries) != 2 {
		t.Errorf("complete %v with %d summaries, want not complete with 2", got.Complete, len(got.Summaries))
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "holds no run") {
		t.Errorf("an empty folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, JSONFile), []byte(`{"version": 99}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("another version: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, CSVFile), []byte("a,b,c,d,e,f,g,h,i,j\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLog(dir, &Run{}); err == nil || !strings.Contains(err.Error(), "not the samples of a run") {
		t.Errorf("another table: %v", err)
	}
}
