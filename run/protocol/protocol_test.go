package protocol

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMessages(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	if err := errors.Join(w.Number(Hello, Version), w.Write(Stdout, []byte("out")), w.Write(Stdin, nil), w.Resize(24, 80), w.Exit(137, "why")); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, MaxData)
	next := func(k Kind) Message {
		t.Helper()
		m, err := Read(&b, buffer)
		if err != nil || m.Kind != k {
			t.Fatalf("Read: kind %d, %v; want kind %d", m.Kind, err, k)
		}
		return m
	}
	if err := Greet(next(Hello)); err != nil {
		t.Error(err)
	}
	if m := next(Stdout); string(m.Data) != "out" {
		t.Errorf("Stdout: %q", m.Data)
	}
	if m := next(Stdin); len(m.Data) != 0 {
		t.Errorf("Stdin: %q, want its end", m.Data)
	}
	if rows, columns, err := next(Resize).Size(); rows != 24 || columns != 80 || err != nil {
		t.Errorf("Size: %d, %d, %v", rows, columns, err)
	}
	if status, why, err := next(Exit).Status(); status != 137 || why != "why" || err != nil {
		t.Errorf("Status: %d, %q, %v", status, why, err)
	}
	if _, err := Read(&b, buffer); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
	if err := w.Write(Stdout, make([]byte, MaxData+1)); err == nil {
		t.Error("a message that is too large was written")
	}
}

func TestBadMessages(t *testing.T) {
	tests := map[string]struct{ data, want string }{
		"kind 0":       {"\x00\x00\x00\x00\x00\x00\x00\x00", "unknown kind 0"},
		"unknown kind": {"\x7f\x00\x00\x00\x00\x00\x00\x00", "unknown kind 127"},
		"not zero":     {"\x01\x00\x01\x00\x00\x00\x00\x00", "other bytes than zero"},
		"large":        {"\x07\x00\x00\x00\x01\x00\x01\x00", "at most 65536"},
		"huge":         {"\x07\x00\x00\x00\xff\xff\xff\xff", "at most 65536"},
		"cut header":   {"\x07\x00\x00", "unexpected EOF"},
		"cut":          {"\x07\x00\x00\x00\x04\x00\x00\x00abc", "unexpected EOF"},
		"no data":      {"\x07\x00\x00\x00\x04\x00\x00\x00", "unexpected EOF"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := Read(strings.NewReader(tt.data), make([]byte, MaxData)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if err := Greet(Message{Hello, []byte{2, 0, 0, 0}}); err == nil || !strings.Contains(err.Error(), "speaks version 2") {
		t.Errorf("another version: %v", err)
	}
	for _, m := range []Message{{Exit, nil}, {Exit, []byte{0, 1, 0, 0}}, {Exit, make([]byte, 5000)}} {
		if _, _, err := m.Status(); err == nil {
			t.Errorf("Status of %d bytes is taken", len(m.Data))
		}
	}
}

func TestReadSpec(t *testing.T) {
	good := `{"Version": 1, "Root": "/dev/vda", "Process": {"Args": ["/app", "a b", "\""], "Env": ["A="], "User": "me:them", "Capabilities": ["CHOWN", "cap_kill"]}}`
	s, err := ReadSpec(strings.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	want := &Spec{Version: 1, Root: "/dev/vda", Process: Process{Args: []string{"/app", "a b", `"`}, Env: []string{"A="}, User: "me:them", Capabilities: []string{"CHOWN", "cap_kill"}}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	tests := map[string]struct{ text, want string }{
		"newer":               {`{"Version": 2, "Process": {"Args": ["a"]}}`, "speaks version 2"},
		"what is not known":   {`{"Version": 1, "Process": {"Args": ["a"], "Seccomp": {}}}`, "unknown field"},
		"no program":          {`{"Version": 1}`, "no program"},
		"a zero byte":         {`{"Version": 1, "Process": {"Args": ["a\u0000b"]}}`, "zero byte"},
		"a name alone":        {`{"Version": 1, "Process": {"Args": ["a"], "Env": ["HOME"]}}`, "no name, or no value"},
		"a relative folder":   {`{"Version": 1, "Process": {"Args": ["a"], "Dir": "x"}}`, "begin with a slash"},
		"a capability":        {`{"Version": 1, "Process": {"Args": ["a"], "Capabilities": ["FLY"]}}`, "no capability"},
		"a limit":             {`{"Version": 1, "Process": {"Args": ["a"], "Rlimits": [{"Name": "NOFILE", "Soft": 2, "Hard": 1}]}}`, "above its hard limit"},
		"a mount of the root": {`{"Version": 1, "Mounts": [{"Tag": "t", "Target": "/../"}], "Process": {"Args": ["a"]}}`, "a folder with the tag"},
		"two":                 {good + good, "follows"},
		"no JSON":             {"\xff", "invalid character"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadSpec(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// Whatever a guest sends, the host's side reads messages within their bounds, or
// ends.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	w := NewWriter(&b)
	_ = w.Number(Hello, Version)
	_ = w.Write(Stdout, []byte("x"))
	_ = w.Exit(1, "")
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, buffer := bytes.NewReader(data), make([]byte, MaxData)
		for {
			m, err := Read(r, buffer)
			if err != nil {
				return
			}
			if len(m.Data) > MaxData || m.Kind == 0 || m.Kind >= kinds {
				t.Fatalf("kind %d, %d bytes", m.Kind, len(m.Data))
			}
			_, _ = m.Number()
			_, _, _ = m.Size()
			if status, why, err := m.Status(); err == nil && len(why) > maxWhy {
				t.Fatalf("status %d, %d bytes of why", status, len(why))
			}
		}
	})
}

// Whatever a specification says, what is taken is one that a process can be made of.
func FuzzReadSpec(f *testing.F) {
	f.Add([]byte(`{"Version": 1, "Process": {"Args": ["/app"], "Env": ["A=1"], "Rlimits": [{"Name": "NOFILE", "Soft": 1, "Hard": 2}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadSpec(bytes.NewReader(data))
		if err != nil {
			return
		}
		if s.Version != Version || len(s.Process.Args) == 0 || strings.ContainsRune(strings.Join(append(s.Process.Args, s.Process.Env...), ""), 0) {
			t.Fatalf("taken: %+v", s)
		}
	})
}
