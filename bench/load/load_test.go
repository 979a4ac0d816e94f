package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serve serves at an address of its own.
func serve(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func TestWaitReadySeesTheBeginning(t *testing.T) {
	// An address where nobody listens yet.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	const after = time.Second
	begin := time.Now()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "here") })}
	defer server.Close()
	began := make(chan time.Time, 1)
	time.AfterFunc(after, func() {
		l, err := net.Listen("tcp4", addr.String())
		began <- time.Now()
		if err == nil {
			_ = server.Serve(l)
		}
	})

	r, err := Wait{Addr: addr, Path: "/", Each: Interval}.Ready(context.Background())

	if err != nil {
		t.Fatal(err)
	}
	if at := r.At.Sub(begin); at < after {
		t.Errorf("ready after %v, and it listened after %v", at, after)
	}
	if late := r.At.Sub(<-began); late > patience {
		t.Errorf("found out %v after it listened", late)
	}
	if r.Attempts < 10 || r.Mean <= 0 || r.Max < r.Mean {
		t.Errorf("%d attempts, on average every %v, at the most %v: want one in about a millisecond", r.Attempts, r.Mean, r.Max)
	}
}

func TestWaitReadyEnds(t *testing.T) {
	busy := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := (Wait{Addr: busy, Path: "/x", Each: Interval}).Ready(ctx); err == nil || !strings.Contains(err.Error(), "GET /x with status 503, not 200") {
		t.Errorf("a service that refuses: %v", err)
	}
	gone := make(chan struct{})
	close(gone)
	if _, err := (Wait{Addr: netip.MustParseAddrPort("127.0.0.1:1"), Path: "/", Each: Interval, Gone: gone}).Ready(context.Background()); err == nil {
		t.Error("an instance that ended is ready")
	}
}

// An instance that is there and does not get round to answering is asked less often.
func TestWaitReadySparesTheBusy(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0") // and nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	attempts := func(heard func() bool) int {
		ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
		defer cancel()
		r, err := Wait{Addr: netip.MustParseAddrPort(l.Addr().String()), Path: "/", Each: Interval, Heard: heard}.Ready(ctx)
		if err == nil {
			t.Error("ready, and nobody has answered")
		}
		return r.Attempts
	}
	// 128 of them at 1 ms, as many at 4, and the rest at 16.
	busy := attempts(func() bool { return true })
	silent := attempts(func() bool { return false })
	if busy > 2*inFlight+100 || silent <= busy {
		t.Errorf("%d attempts to connect to one that is busy, %d to one of which nothing was heard", busy, silent)
	}
}

func TestClosedCountsAnswers(t *testing.T) {
	var served atomic.Int64
	addr := serve(t, func(http.ResponseWriter, *http.Request) { served.Add(1) })
	const lasts = 300 * time.Millisecond
	begin := time.Now()

	r := Closed(context.Background(), addr, "/", 4, lasts, 1)

	// It took no less than it was to, and no more than it has until now.
	low, high := float64(served.Load())/time.Since(begin).Seconds(), float64(served.Load())/lasts.Seconds()
	if r.PerSecond < low || r.PerSecond > high || r.Failed > 0 {
		t.Errorf("%v requests a second with %d failed, and the server had %v to %v", r.PerSecond, r.Failed, low, high)
	}
	if r.ClientCPU <= 0 {
		t.Errorf("client used %v of its processors", r.ClientCPU)
	}
}

// A server that stalls for half a second makes every request late that was due
// meanwhile, not only those that were sent.
func TestOpenOmitsNothing(t *testing.T) {
	var first sync.Once
	var begin time.Time
	addr := serve(t, func(http.ResponseWriter, *http.Request) {
		first.Do(func() { begin = time.Now() })
		if at := time.Since(begin); at > 200*time.Millisecond && at < 700*time.Millisecond {
			time.Sleep(700*time.Millisecond - at)
		}
	})

	l := Open(context.Background(), addr, "/", 100, time.Second)

	if l.Success != 1 {
		t.Errorf("%v of the requests were answered, want all", l.Success)
	}
	// Half of the requests came during the stall, and waited 250 ms on average.
	if l.P90 < 300*time.Millisecond || l.Max < 400*time.Millisecond {
		t.Errorf("p50 %v, p90 %v, max %v: want the stall to be seen in a tenth of them", l.P50, l.P90, l.Max)
	}
}

// A server that answers at once has latencies near zero, not near the interval.
func TestOpenLoopCountsFromWhenARequestWasDue(t *testing.T) {
	addr := serve(t, func(http.ResponseWriter, *http.Request) {})
	l := Open(context.Background(), addr, "/", 5, 2*time.Second)
	if l.P50 < 0 || l.P50 > 100*time.Millisecond {
		t.Errorf("p50 %v at one request in 200 ms, want a small part of that", l.P50)
	}
}

func TestSort(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var numbers []int
		if err := json.NewDecoder(r.Body).Decode(&numbers); err != nil || r.URL.Path != "/sort" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if len(numbers) != 7 { // one size is left as it came
			slices.Sort(numbers)
		}
		_ = json.NewEncoder(w).Encode(numbers)
	})
	if took, err := Sort(context.Background(), addr, 100); err != nil || took <= 0 {
		t.Errorf("Sort of 100 = %v, %v", took, err)
	}
	if _, err := Sort(context.Background(), addr, 7); err == nil || !strings.Contains(err.Error(), "not sorted") {
		t.Errorf("an answer that is not sorted: %v", err)
	}
}

// endless answers every connection with a text and then with the same again and again.
func endless(t *testing.T, first, again string) (addr netip.AddrPort, sent *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	sent = &atomic.Int64{}
	chunk := []byte(strings.Repeat(again, 1+1<<16/len(again)))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, first)
				for sent.Load() < 2<<30 { // or the test would take the memory if it failed
					n, err := c.Write(chunk)
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort(), sent
}

// What is measured cannot take the bench's memory, whatever it sends.
func TestAnswersAreBounded(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	servers := map[string][2]string{
		"headers":     {ok, "X-Header-With-A-Name: and a value\r\n"},
		"one header":  {ok + "X: ", "x"},
		"body":        {ok + "\r\n", "x"},
		"chunks":      {ok + "Transfer-Encoding: chunked\r\n\r\n", "4\r\nxxxx\r\n"},
		"status line": {"HTTP/1.1 200 ", "x"},
		"interim":     {"", "HTTP/1.1 100 Continue\r\n\r\n"},
		"hints":       {"", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"},
	}
	for name, s := range servers {
		t.Run(name, func(t *testing.T) {
			addr, sent := endless(t, s[0], s[1])
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			begin := time.Now()
			_, _ = Wait{Addr: addr, Path: "/", Each: 10 * time.Millisecond, Gone: make(chan struct{})}.Ready(ctx)
			_, _ = Get(ctx, addr, "/")
			_, _ = Sort(ctx, addr, 10)
			_ = Open(ctx, addr, "/", 20, 300*time.Millisecond)
			_ = Closed(ctx, addr, "/", 4, 300*time.Millisecond, 1)
			runtime.ReadMemStats(&after)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if n := after.Sys - before.Sys; after.Sys > before.Sys && n > 256<<20 {
				t.Errorf("%d MiB of memory were taken", n>>20)
			}
			if n := sent.Load(); n >= 2<<30 {
				t.Errorf("%d MiB were taken off the server", n>>20)
			}
		})
	}
}

// Nobody is led elsewhere by what is measured.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var followed atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	addr := server.Listener.Addr().(*net.TCPAddr).AddrPort()
	_, _ = Sort(t.Context(), addr, 3)
	_ = Open(t.Context(), addr, "/", 20, 200*time.Millisecond)
	_ = Closed(t.Context(), addr, "/", 1, 100*time.Millisecond, 1)
	if n := followed.Load(); n > 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}
