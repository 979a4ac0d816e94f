package timeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recorded is a recorder in which everything has happened, a millisecond apart.
func recorded() *Recorder {
	exec := time.Now().Add(-time.Second)
	r := New(exec)
	for i, p := range phases {
		r.MarkAt(p, FromVMM, exec.Add(time.Duration(i)*time.Millisecond))
	}
	return r
}

func TestPhases(t *testing.T) {
	r := recorded()
	r.Mark(Ready, FromProbe) // again: does not count

	d := r.Data("vmlinuz")

	for i, p := range d.Phases {
		if p.Name != phases[i] || p.NS != int64(i)*1e6 || p.Source != FromVMM {
			t.Errorf("phase %d is %+v; want %s at %d ms", i, p, phases[i], i)
		}
	}
	if len(d.Phases) != len(phases) {
		t.Errorf("%d phases; want %d", len(d.Phases), len(phases))
	}
}

// What the timeline costs is left out of all that comes after it, and told.
func TestCost(t *testing.T) { synctest.Test(t, testCost) }

func testCost(t *testing.T) { // with a clock that stands still
	r := New(time.Now().Add(-time.Second))
	r.MarkAt(Entered, FromVMM, r.start.Add(100*time.Millisecond))
	r.Cost(time.Now().Add(-50*time.Millisecond), 3)
	r.MarkAt(StartKernel, FromProbe, r.start.Add(200*time.Millisecond))

	d := r.Data("")

	want := []PhaseAt{{Exec, 0, 0, FromVMM}, {Entered, 100e6, 0, FromVMM}, {StartKernel, 150e6, 50e6, FromProbe}}
	if diff := cmp.Diff(want, d.Phases); diff != "" {
		t.Error(diff)
	}
	if d.Stops != 3 || d.CostNS != 50e6 {
		t.Errorf("%d stops, %d ns; want 3 and 50 ms", d.Stops, d.CostNS)
	}
	if s, ok := r.Since(StartKernel); !ok || s != 150*time.Millisecond {
		t.Errorf("Since = %v, %v; want 150ms", s, ok)
	}
}

func TestInitcalls(t *testing.T) {
	r := New(time.Now())
	r.CallEnded(time.Now()) // of none
	for range maxCalls + 5 {
		r.CallBegan("acpi_init", time.Now())
		r.CallEnded(time.Now())
		r.CallEnded(time.Now())
	}
	r.calls = r.calls[:2]
	r.CallBegan("never_returns", time.Now())
	d := r.Data("")
	if len(d.Initcalls) != 2 || d.Initcalls[1].Name != "acpi_init" || d.Initcalls[1].NS < d.Initcalls[0].NS+d.Initcalls[0].TookNS {
		t.Errorf("%+v; want two calls of acpi_init, one after the other", d.Initcalls)
	}
}

// The kernel's log says when, by the kernel's clock. Where there are no probes,
// that has to do.
func TestConsole(t *testing.T) {
	r := New(time.Now())
	r.Condition.Console = "login: "
	var out bytes.Buffer
	console := r.Console(&out)
	log := "garbage [ 1.0] no\r\n" +
		"[    0.000000] Linux version 6.1.0 (gcc)\r\n" +
		"[    0.100000] calling  acpi_init+0x0/0x30 @ 1\r\n" +
		"[    0.150000][    T1] initcall acpi_init+0x0/0x30 returned 0 after 40000 usecs\r\n" +
		"[    nan] Run /init as init process\r\n" +
		"[    0.200000] Freeing unused kernel image (initmem) memory: 2000K\r\n" +
		"[    0.250000] Run /init as init process\r\n" +
		strings.Repeat("x", 5000) + "\n" +
		"debian login: "
	for _, b := range []byte(log) {
		if n, err := console.Write([]byte{b}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if out.String() != log {
		t.Error("the console is not passed on as it is")
	}

	d := r.Data("")

	at := map[Phase]int64{}
	for _, p := range d.Phases {
		if p.Source == FromConsole {
			at[p.Name] = p.NS
		}
	}
	if got, want := at[RunInit]-at[StartKernel], int64(250e6); got != want {
		t.Errorf("run_init_process %d ns after start_kernel; want %d", got, want)
	}
	if got, want := at[InitcallsDone]-at[StartKernel], int64(200e6); got != want {
		t.Errorf("initcalls done %d ns after start_kernel; want %d", got, want)
	}
	if _, ok := at[Ready]; !ok {
		t.Error("not ready")
	}
	if len(d.Initcalls) != 1 || d.Initcalls[0].Name != "acpi_init" || d.Initcalls[0].TookNS != 40e6 || d.Initcalls[0].NS-at[StartKernel] != 110e6 {
		t.Errorf("initcalls %+v; want acpi_init, 40 ms from 110 ms on", d.Initcalls)
	}
}

// What probes have seen is not replaced by what the log says.
func TestConsoleIsSecond(t *testing.T) {
	r := recorded()
	r.CallBegan("seen", time.Now())
	r.CallEnded(time.Now())
	_, _ = fmt.Fprint(r.Console(new(bytes.Buffer)), "[    9.000000] Run /init as init process\n",
		"[    9.000000] initcall logged+0x0/0x30 returned 0 after 40000 usecs\n")
	d := r.Data("")
	for _, p := range d.Phases {
		if p.Source != FromVMM {
			t.Errorf("%+v comes from the log", p)
		}
	}
	if len(d.Initcalls) != 1 || d.Initcalls[0].Name != "seen" {
		t.Errorf("initcalls %+v; want the one that was seen", d.Initcalls)
	}
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte("[    0.250000] Run /init as init process\n[ 1.5] initcall a+0/0 returned 0 after 1 usecs\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		r := New(time.Now())
		if _, err := r.Console(new(bytes.Buffer)).Write(log); err != nil {
			t.Error(err)
		}
		if _, err := r.Data("").WriteTo(new(bytes.Buffer)); err != nil {
			t.Error(err)
		}
	})
}

// A file is Chrome's format, and reads back as what was written.
func TestFile(t *testing.T) {
	r := recorded()
	r.CallBegan("acpi_init", time.Now())
	r.CallEnded(time.Now())
	r.Marker("port 0x80", 0x41, false, time.Now())
	r.Note("something")
	d := r.Data("vmlinuz")
	var file bytes.Buffer
	if _, err := d.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	var generic struct {
		TraceEvents []map[string]any
	}
	if err := json.Unmarshal(file.Bytes(), &generic); err != nil {
		t.Fatal(err)
	}
	complete := 0
	for _, e := range generic.TraceEvents {
		if e["name"] == "" || e["ph"] == nil || e["pid"] == nil {
			t.Errorf("event %v lacks what every event has", e)
		}
		if e["ph"] == "X" {
			complete++
		}
	}
	if want := len(phases) - 1 + 1; complete != want {
		t.Errorf("%d complete events; want %d", complete, want)
	}

	back, err := Read(&file)

	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, back); diff != "" {
		t.Error(diff)
	}
	for _, wrong := range []string{"", "{}", "[]", "{", `{"vmm":{"version":2}}`} {
		if _, err := Read(strings.NewReader(wrong)); err == nil {
			t.Errorf("%q is read", wrong)
		}
	}
}

func FuzzRead(f *testing.F) {
	var file bytes.Buffer
	if _, err := recorded().Data("k").WriteTo(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add([]byte(`{"vmm":{"version":1,"phases":[{"name":"a","ns":-9223372036854775808},{"name":"b","ns":9223372036854775807}]}}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		if d, err := Read(bytes.NewReader(file)); err == nil {
			_, _ = d.WriteText(new(bytes.Buffer), 3)
		}
	})
}

func TestText(t *testing.T) {
	d := Data{
		Phases:    []PhaseAt{{Exec, 0, 0, FromVMM}, {Entered, 40e6, 0, FromVMM}, {RunInit, 100e6, 0, FromConsole}},
		Initcalls: []Initcall{{"one", 50e6, 1e6}, {"two", 60e6, 3e6}, {"three", 70e6, 2e6}},
		CostNS:    2e6, Stops: 9, Note: "no symbols",
	}
	var b bytes.Buffer
	if _, err := d.WriteText(&b, 2); err != nil {
		t.Fatal(err)
	}
	want := `phase                         at ms  lasted ms
exec                          0.000     40.000  ==============|
first guest instruction      40.000     60.000                ======================|
run_init_process            100.000                                                 | by the kernel's log
3 initcalls, 6.000 ms; the slowest:
  two                                  60.000      3.000
  three                                70.000      2.000
the timeline itself: 2.000 ms in 9 stops of the guest, left out of the times above
note: no symbols
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestCondition(t *testing.T) {
	for _, s := range []string{"console:login: ", "tcp:127.0.0.1:8080", "tcp:[::1]:80", "marker:65"} {
		if c, err := ParseCondition(s); err != nil || c.String() != s {
			t.Errorf("ParseCondition(%q) = %v, %v", s, c, err)
		}
	}
	for _, s := range []string{"", "console", "console:", "tcp:", "tcp:8080", "marker:", "marker:256", "marker:x", "login"} {
		if c, err := ParseCondition(s); err == nil {
			t.Errorf("ParseCondition(%q) = %v", s, c)
		}
	}
}

// A port is ready when it answers: not when nobody listens, and not when
// somebody accepts and says nothing.
func TestWaitTCP(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addr := silent.Addr().String()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	r := New(time.Now())
	if r.WaitTCP(ctx, addr); ctx.Err() == nil {
		t.Error("a silent port is ready")
	}
	if _, ok := r.Since(Ready); ok {
		t.Error("a silent port is ready")
	}

	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello"))
			conn.Close()
		}
	}()
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r.WaitTCP(ctx, addr)
	if _, ok := r.Since(Ready); !ok || ctx.Err() != nil {
		t.Error("a port that answers is not ready")
	}
}

// Nobody has to ask whether there is a recorder.
func TestNil(t *testing.T) {
	var r *Recorder
	r.Mark(Ready, FromVMM)
	r.CallBegan("x", time.Now())
	r.CallEnded(time.Now())
	r.Marker("x", 1, true, time.Now())
	r.Cost(time.Now(), 1)
	r.Note("x")
	if _, ok := r.Since(Ready); ok {
		t.Error("nothing has happened")
	}
}

// ExecTime is not after now and, in a test, not long before.
func TestExecTime(t *testing.T) {
	if d := time.Since(ExecTime()); d <= 0 || d > time.Minute {
		t.Errorf("executed %v ago", d)
	}
}

// A file cannot take the memory of who reads it.
func TestReadHasLimits(t *testing.T) {
	many := `{"vmm":{"version":1,"phases":[` + strings.Repeat(`{},`, 2_000_000) + `{}]}}`
	if _, err := Read(strings.NewReader(many)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("two million phases: %v", err)
	}
	if _, err := Read(io.LimitReader(endless{}, 1<<30)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file without an end: %v", err)
	}
}

// endless is a file without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
