// Package load asks an application things over HTTP: whether it is there, how
// many requests it answers, how long they take.
package load

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Interval is the time from one attempt to connect to the next, where there is
// nothing else to attend to.
const Interval = time.Millisecond

// patience is how long an attempt may take to connect and to be answered.
const patience = 5 * time.Second

// inFlight is how many attempts may be waiting for a connection at once. One
// whose first packet was lost, as there was nobody to receive it, is dead: TCP
// would repeat the packet after a second. The next attempt finds out sooner.
const inFlight = 128

// hearing is after how many attempts it is looked up again whether anything has been
// heard of an instance.
const hearing = 32

// slowing is by how much attempts become rarer when the instance cannot keep up, and
// slowest from when on they do no longer.
const (
	slowing = 4
	slowest = time.Second
)

// Ready is how an instance came to answer.
type Ready struct {
	At       time.Time     // when a response with status 200 had been read
	Attempts int           // to connect
	Mean     time.Duration // between attempts
	Max      time.Duration
	Status   int // of the last response that was not 200
}

// Wait is how to wait for an instance.
type Wait struct {
	Addr netip.AddrPort
	Path string        // of the request that has to be answered with status 200
	Each time.Duration // from one attempt to connect to the next
	Gone <-chan struct{}
	// Heard tells whether a packet has come from it; nil where that is not known.
	// From then on it answers each attempt in some way, so that one that goes
	// without has met an instance that is too busy, with the other attempts most of
	// all: further ones are made rarer.
	Heard func() bool
}

// Ready attempts to connect time after time, until there is an answer, ctx ends, or
// the instance is gone.
func (w Wait) Ready(ctx context.Context) (Ready, error) {
	ctx, cancel := context.WithCancel(ctx)
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer cancel()
	request := "GET " + w.Path + " HTTP/1.1\r\nHost: " + w.Addr.String() + "\r\nConnection: close\r\n\r\n"
	type answer struct {
		at     time.Time
		status int
	}
	answers := make(chan answer)
	waiting := make(chan context.CancelFunc, inFlight)
	answering := make(chan struct{}, maxAnswering)
	fair := math.MaxInt      // the first attempt that was made while it could answer
	var ignored atomic.Int64 // the last attempt that it did not answer in time
	ticker := time.NewTicker(w.Each)
	defer ticker.Stop()

	var r Ready
	var lastErr error
	begin := time.Now()
	for last := begin; ; {
		if w.Heard != nil && r.Attempts%hearing == 0 && fair == math.MaxInt && w.Heard() {
			fair = r.Attempts
		}
		attempt, giveUp := context.WithTimeout(ctx, patience)
		select {
		case waiting <- giveUp:
		default:
			(<-waiting)() // the oldest gives way; one that is connected does not mind
			waiting <- giveUp
		}
		if int(ignored.Load()) >= fair && w.Each < slowest {
			w.Each *= slowing
			ticker.Reset(w.Each)
			fair = r.Attempts
		}
		number := r.Attempts
		attempts.Go(func() {
			status, err := ask(ctx, attempt, patience, w.Addr, request, answering)
			if err != nil {
				if attempt.Err() != nil {
					ignored.Store(int64(number))
				}
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
				lastErr = fmt.Errorf("it answers GET %s with status %d, not 200", w.Path, a.status)
			case <-w.Gone:
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

// errBusy tells that as many attempts wait for an answer as may.
var errBusy = errors.New("too many attempts wait for an answer")

// ask makes one connection, until attempt ends, and one request, which may take as
// long as patience.
func ask(ctx, attempt context.Context, patience time.Duration, addr netip.AddrPort, request string, answering chan struct{}) (status int, err error) {
	var d net.Dialer
	conn, err := d.DialContext(attempt, "tcp4", addr.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	select {
	case answering <- struct{}{}:
		defer func() { <-answering }()
	default:
		return 0, errBusy
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte(request)); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxHeader)), nil)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, nil // the body comes as it may, and is not read
}
