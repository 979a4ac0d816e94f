package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
)

// requestPatience is how long a request may take, connecting included.
const requestPatience = 30 * time.Second

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
	attacker := vegeta.NewAttacker(vegeta.Timeout(requestPatience), vegeta.Workers(8), vegeta.MaxWorkers(512), vegeta.KeepAlive(true))
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
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	begin := time.Now()
	response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Minute}).Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
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
	status, err := ask(ctx, ctx, requestPatience, addr, "GET "+path+" HTTP/1.1\r\nHost: "+addr.String()+"\r\nConnection: close\r\n\r\n")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d", path, status)
	}
	return time.Since(begin), err
}
