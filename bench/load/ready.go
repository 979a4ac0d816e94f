// Package load asks an application things over HTTP: whether it is there, how
// many requests it answers, how long they take.
package load

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Interval is the time from one attempt to connect to the next.
const Interval = time.Millisecond

// patience is how long an attempt may take to connect and to be answered.
const patience = 5 * time.Second

// inFlight is how many attempts may be waiting for a connection at once. One
// whose first packet was lost, as there was nobody to receive it, is dead: TCP
// would repeat the packet after a second. The next attempt finds out sooner.
const inFlight = 128

// Ready is how an instance came to answer.
type Ready struct {
	At       time.Time     // when a response with status 200 had been read
	Attempts int           // to connect
	Mean     time.Duration // between attempts
	Max      time.Duration
	Status   int // of the last response that was not 200
}

// WaitReady attempts to connect every Interval until a request for path is
// answered with status 200, ctx ends, or gone is closed.
func WaitReady(ctx context.Context, addr netip.AddrPort, path string, gone <-chan struct{}) (Ready, error) {
	ctx, cancel := context.WithCancel(ctx)
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer cancel()
	request := "GET " + path + " HTTP/1.1\r\nHost: " + addr.String() + "\r\nConnection: close\r\n\r\n"
	type answer struct {
		at     time.Time
		status int
	}
	answers := make(chan answer)
	waiting := make(chan context.CancelFunc, inFlight)
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()

	var r Ready
	var lastErr error
	begin := time.Now()
	for last := begin; ; {
		attempt, giveUp := context.WithTimeout(ctx, patience)
		select {
		case waiting <- giveUp:
		default:
			(<-waiting)() // the oldest gives way; one that is connected does not mind
			waiting <- giveUp
		}
		attempts.Go(func() {
			status, err := ask(ctx, attempt, patience, addr, request)
			if err != nil {
				return
			}
			select {
			case answers <- answer{time.Now(), status}:
			case <-ctx.Done():
			}
		})
		r.Attempts++
		for waited := false; !waited; {
			select {
			case <-ticker.C:
				waited = true
			case a := <-answers:
				if r.Status = a.status; a.status == http.StatusOK {
					r.At = a.at
					return r, nil
				}
				lastErr = fmt.Errorf("it answers GET %s with status %d, not 200", path, a.status)
			case <-gone:
				return r, errEnded
			case <-ctx.Done():
				return r, cmp.Or(lastErr, ctx.Err())
			}
		}
		now := time.Now()
		r.Max = max(r.Max, now.Sub(last))
		r.Mean = now.Sub(begin) / time.Duration(r.Attempts)
		last = now
	}
}

// errEnded tells that the instance ended before it was ready. Why is its to say.
var errEnded = errors.New("it ended before it was ready")

// ask makes one connection, until attempt ends, and one request, which may take as
// long as patience.
func ask(ctx, attempt context.Context, patience time.Duration, addr netip.AddrPort, request string) (status int, err error) {
	var d net.Dialer
	conn, err := d.DialContext(attempt, "tcp4", addr.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte(request)); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return response.StatusCode, nil
}
