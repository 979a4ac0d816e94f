package load

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"

	"vmm/bench/stats"
	"vmm/untrusted"
)

// requestPatience is how long a request may take, connecting included.
const requestPatience = 30 * time.Second

// What is measured is not to be trusted: it may answer without an end. What it sends
// is bounded in size and, by the time that a request may take, in time.
const (
	maxHeader    = 16 << 10 // bytes, of all lines together
	closedHeader = 4 << 10  // the same, in the closed loop
	maxBody      = 1 << 20  // bytes
	maxWorkers   = 512      // requests of the open loop that wait for an answer
	maxAnswering = 256      // attempts that are connected, and wait for one
	sortPatience = 5 * time.Minute
)

// transport is net/http's with bounds for what comes.
func transport() *http.Transport {
	return &http.Transport{
		MaxResponseHeaderBytes: maxHeader, DisableCompression: true, MaxIdleConnsPerHost: maxWorkers, MaxConnsPerHost: maxWorkers,
		ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
	}
}

// client asks one server, and follows it nowhere else.
func client(t http.RoundTripper, patience time.Duration) *http.Client {
	return &http.Client{
		Transport: t, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded makes a body of more than maxBody bytes one that fails.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = http.MaxBytesReader(nil, response.Body, maxBody)
	}
	return response, err
}

// Throughput is the result of a closed loop.
type Throughput struct {
	PerSecond float64 // requests answered with status 200
	Failed    int
	// ClientCPU is the share of its processors that the load generator used: with
	// less than all of it, it was not what limited the figure.
	ClientCPU float64
}

// Closed sends requests over some connections, each waiting for its response
// before its next request, for a time. The client is fasthttp's: lighter than the
// servers that are measured, most of them.
func Closed(ctx context.Context, addr netip.AddrPort, path string, connections int, d time.Duration, cpus int) Throughput {
	client := &fasthttp.HostClient{
		Addr: addr.String(), MaxConns: connections, ReadTimeout: requestPatience, WriteTimeout: requestPatience,
		NoDefaultUserAgentHeader: true, MaxIdemponentCallAttempts: 1,
		MaxResponseBodySize: maxBody, ReadBufferSize: closedHeader,
	}
	defer client.CloseIdleConnections()
	var answered, failed atomic.Int64
	var workers sync.WaitGroup
	begin, used := time.Now(), cpuTime()
	end := begin.Add(d)
	for range connections {
		workers.Go(func() {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			req.SetRequestURI("http://" + addr.String() + path)
			for time.Now().Before(end) && ctx.Err() == nil {
				if err := client.DoDeadline(req, resp, end.Add(requestPatience)); err != nil || resp.StatusCode() != http.StatusOK {
					failed.Add(1)
					time.Sleep(Interval) // a server that refuses is not to be hit harder
					continue
				}
				answered.Add(1)
			}
		})
	}
	workers.Wait()
	elapsed := time.Since(begin)
	return Throughput{
		PerSecond: float64(answered.Load()) / elapsed.Seconds(), Failed: int(failed.Load()),
		ClientCPU: float64(cpuTime()-used) / float64(elapsed) / float64(max(cpus, 1)),
	}
}

// cpuTime is what this process has used of its processors.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Latency is the result of an open loop.
type Latency struct {
	P50, P90, P99, Max time.Duration
	Success            float64 // part of the requests that were answered with status 200
}

// Open sends requests at a fixed rate for a time, whatever becomes of those before,
// and measures from when each was due: no omission of what a slow server kept from
// being sent.
func Open(ctx context.Context, addr netip.AddrPort, path string, rate int, d time.Duration) Latency {
	transport := transport()
	defer transport.CloseIdleConnections()
	attacker := vegeta.NewAttacker(vegeta.Client(client(bounded{transport}, requestPatience)), vegeta.MaxBody(0),
		vegeta.Workers(8), vegeta.MaxWorkers(maxWorkers))
	defer attacker.Stop()
	target := vegeta.NewStaticTargeter(vegeta.Target{Method: http.MethodGet, URL: "http://" + addr.String() + path})
	var latencies []float64
	answered, begin := 0, time.Now()
	results := attacker.Attack(target, vegeta.Rate{Freq: rate, Per: time.Second}, d, "")
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()
	for r := range results {
		// The first is due after an interval.
		due := begin.Add(time.Duration(r.Seq+1) * time.Second / time.Duration(rate))
		latencies = append(latencies, r.End().Sub(due).Seconds())
		if r.Code == http.StatusOK {
			answered++
		}
	}
	quantile := func(q float64) time.Duration {
		return time.Duration(stats.Quantile(latencies, q) * float64(time.Second))
	}
	if len(latencies) == 0 {
		return Latency{}
	}
	return Latency{
		P50: quantile(0.5), P90: quantile(0.9), P99: quantile(0.99), Max: quantile(1),
		Success: float64(answered) / float64(len(latencies)),
	}
}

// Sort has the application sort n integers that lie in descending order, bubble
// sort's worst case, and returns the time from sending them to having the answer.
func Sort(ctx context.Context, addr netip.AddrPort, n int) (time.Duration, error) {
	var body bytes.Buffer
	body.WriteByte('[')
	for i := n; i > 0; i-- {
		body.WriteString(strconv.Itoa(i))
		if i > 1 {
			body.WriteByte(',')
		}
	}
	body.WriteByte(']')
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr.String()+"/sort", &body)
	if err != nil {
		return 0, err
	}
	sent := int64(body.Len())
	transport := transport()
	transport.DisableKeepAlives = true
	defer transport.CloseIdleConnections()
	begin := time.Now()
	response, err := client(transport, sortPatience).Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := untrusted.ReadAll(response.Body, 2*sent+maxHeader) // blanks may be in it
	took := time.Since(begin)
	switch {
	case err != nil:
		return 0, err
	case response.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("POST /sort of %d integers: status %d", n, response.StatusCode)
	case !bytes.HasPrefix(answer, []byte("[1,2,3")) && n >= 3:
		return 0, fmt.Errorf("POST /sort of %d integers: not sorted: %.20q", n, answer)
	}
	return took, nil
}

// Get is the latency of one request over a connection of its own.
func Get(ctx context.Context, addr netip.AddrPort, path string) (time.Duration, error) {
	// To connect as well: the kernel would try for two minutes.
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	begin := time.Now()
	status, err := ask(ctx, ctx, requestPatience, addr, "GET "+path+" HTTP/1.1\r\nHost: "+addr.String()+"\r\nConnection: close\r\n\r\n", make(chan struct{}, 1))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d", path, status)
	}
	return time.Since(begin), err
}
