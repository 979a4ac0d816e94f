package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmm/bench/runtime"
)

func TestParseCPUs(t *testing.T) {
	tests := map[string][]int{
		"0": {0}, "1,0": {0, 1}, "2-4": {2, 3, 4}, "0,2-3,3": {0, 2, 3},
		"": nil, "-1": nil, "3-2": nil, "a": nil, "1-": nil, "1,": nil, "1 2": nil, "99999": {99999}, "0-99999": nil, "0x1": nil,
	}
	for text, want := range tests {
		got, err := ParseCPUs(text)
		if (err != nil) != (want == nil) || want != nil && !cmp.Equal(want, got) {
			t.Errorf("ParseCPUs(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestClientHasProcessorsOfItsOwn(t *testing.T) {
	tests := []struct {
		pin          string
		n            int
		work, client []int
	}{
		{"", 1, []int{0}, []int{0}}, // there is no other
		{"", 2, []int{1}, []int{0}},
		{"", 4, []int{1, 2, 3}, []int{0}},
		{"", 8, []int{2, 3, 4, 5, 6, 7}, []int{0, 1}},
		{"2-3", 4, []int{2, 3}, []int{0, 1}},
		{"0-3", 4, nil, nil},
		{"4", 4, nil, nil},
	}
	for _, tt := range tests {
		work, client, err := divide(tt.pin, tt.n)
		if (err != nil) != (tt.work == nil) || err == nil && (!cmp.Equal(tt.work, work) || !cmp.Equal(tt.client, client)) {
			t.Errorf("divide(%q, %d) = %v, %v, %v, want %v, %v", tt.pin, tt.n, work, client, err, tt.work, tt.client)
		}
	}
}

func TestParseReady(t *testing.T) {
	port, path, err := parseReady("http://:8080/healthz")
	if err != nil || port != 8080 || path != "/healthz" {
		t.Errorf("= %d, %q, %v", port, path, err)
	}
	if _, path, err := parseReady("http://:80"); err != nil || path != "/" {
		t.Errorf("without a path: %q, %v", path, err)
	}
	for _, bad := range []string{"", "8080", "http://host:80/", "https://:443/", "http://:0/", "http://:99999/", "http:///", "http://:80/?a"} {
		if _, _, err := parseReady(bad); err == nil {
			t.Errorf("parseReady(%q) took it", bad)
		}
	}
}

// The order of a run's trials is random, the same for the same seed, and keeps the
// suites together.
func TestPlan(t *testing.T) {
	plan := func(seed uint64) []string {
		o := Defaults()
		o.N, o.Seed, o.Parallel, o.Suites = 10, seed, []int{1, 10}, []string{"start", "memory"}
		h := &host{options: o}
		var subjects []*subject
		for _, name := range []string{"process", "vm"} {
			s := &subject{Runtime: runtime.New(name, "", runtime.BuiltIn[0]), app: runtime.BuiltIn[0]}
			s.Description = s.Describe()
			subjects = append(subjects, s)
		}
		subjects = append(subjects, &subject{missing: fmt.Errorf("not here")})
		var ids []string
		for _, trial := range h.plan(subjects) {
			ids = append(ids, trial.id)
		}
		return ids
	}
	first, again, other := plan(1), plan(1), plan(2)
	if !cmp.Equal(first, again) {
		t.Error("the same seed, another order")
	}
	if cmp.Equal(first, other) {
		t.Error("another seed, the same order")
	}
	// Of each of two subjects: 10 starts alone, 1 of ten at once, what is read; 3 of
	// memory and the smallest.
	if len(first) != 2*(10+1+1+3+1) {
		t.Fatalf("%d trials: %v", len(first), first)
	}
	seen := map[string]bool{}
	for i, id := range first {
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		if suite := id[:5]; (suite == "start") != (i < 24) {
			t.Errorf("trial %d is %s: suites are to follow each other", i, id)
		}
	}
}

func TestSmallTrialsFirst(t *testing.T) {
	a, b := &subject{}, &subject{}
	list := []*trial{
		{id: "a10", subject: a, starts: 10}, {id: "b1", subject: b, starts: 1}, {id: "a1", subject: a, starts: 1},
		{id: "a1'", subject: a, starts: 1}, {id: "b2", subject: b, starts: 2},
	}
	var got []string
	for _, trial := range smallFirst(list) {
		got = append(got, trial.id)
	}
	// The turns of each subject are where they were.
	if diff := cmp.Diff([]string{"a1", "b1", "a1'", "a10", "b2"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLimit(t *testing.T) {
	s := &subject{}
	known := &host{options: Options{Limit: 10 * time.Second}, took: map[*subject][]float64{s: {3}}}
	unknown := &host{options: known.options}
	tests := []struct {
		name  string
		host  *host
		trial trial
		spent time.Duration
		want  bool
	}{
		{"what one start takes is not known yet", unknown, trial{starts: 1}, 0, true},
		{"nor what ten take", unknown, trial{starts: 10}, 0, true},
		{"it fits", known, trial{starts: 2, seconds: 3}, 0, true},
		{"it does not", known, trial{starts: 4}, 0, false},
		{"others have taken the time", known, trial{starts: 1}, 8 * time.Second, false},
		{"it stops by itself", known, trial{starts: 50, bounded: true}, 0, true},
		{"but a second start has to fit", known, trial{starts: 50, bounded: true}, 5 * time.Second, false},
		{"and nothing helps when no time is left", known, trial{starts: 50, bounded: true}, 8 * time.Second, false},
	}
	for _, tt := range tests {
		tt.trial.subject = s
		if err := tt.host.affordable(&tt.trial, tt.spent); (err == nil) != tt.want {
			t.Errorf("%s: %v, want it tried: %v", tt.name, err, tt.want)
		}
	}
}
