// Package explore is a web page on a running machine: its processors, memory,
// devices, queues and console, to be looked at, paused and stepped. The page
// asks, and the server passes the questions on to the machine's control socket
// (docs/control.md); it knows nothing of machines itself.
package explore

import (
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"vmm/control"
)

//go:embed web
var web embed.FS

// Machine answers requests. *control.Client is one.
type Machine interface {
	Call(control.Request) (control.Response, error)
}

// What a page may ask a machine for.
var allowed = []string{control.Pause, control.Resume, control.Step, control.Type, control.ShowAll, control.Inspect}

// Limits against clients that are slow or many.
const (
	maxHeader  = 16 << 10 // bytes
	maxRequest = 4 << 10  // bytes; the control socket's own
	headerFor  = 5 * time.Second
	requestFor = 30 * time.Second
	idleFor    = time.Minute
)

// policy is the page's content security policy: its own files, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// NewToken returns a token that nobody can guess.
func NewToken() string { return rand.Text() }

// Listen listens at an address of the loopback, such as 127.0.0.1:0. Others are
// refused: who reaches the page controls the machine.
func Listen(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is no address such as 127.0.0.1:8080: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not an address of the loopback, 127.0.0.1: the page lets whoever reaches it control the machine; use ssh -L to reach it from elsewhere", host)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &connections{Listener: l}, nil
}

// URL is where the page is.
func URL(l net.Listener, token string) string {
	return fmt.Sprintf("http://%s/%s/", l.Addr(), token)
}

// NewServer returns a server of the page on a machine, for a listener of Listen.
// Only who knows the token is answered, under http://ADDRESS/TOKEN/.
func NewServer(l net.Listener, token string, m Machine) *http.Server {
	mux := http.NewServeMux()
	prefix := "/" + token + "/"
	for path, name := range map[string]string{"{$}": "index.html", "app.js": "app.js", "console.js": "console.js", "style.css": "style.css"} {
		mux.HandleFunc("GET "+prefix+path, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, web, "web/"+name)
		})
	}
	mux.HandleFunc("POST "+prefix+"call", func(w http.ResponseWriter, r *http.Request) { call(w, r, m) })
	return &http.Server{
		Handler:           guard(l.Addr().String(), token, mux),
		ReadHeaderTimeout: headerFor, ReadTimeout: requestFor, WriteTimeout: requestFor, IdleTimeout: idleFor,
		MaxHeaderBytes: maxHeader, ConnContext: withConn,
	}
}

// guard lets requests through that come from the page itself or from an address
// bar. A page of somebody else, in the same browser, does not know the token; if
// it did, its requests would still be another origin's, and a name of its own
// that it makes lead here would show in Host.
func guard(addr, token string, next http.Handler) http.Handler {
	_, port, _ := net.SplitHostPort(addr)
	hosts := []string{addr, "localhost:" + port}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
		switch {
		case !slices.Contains(hosts, r.Host),
			origin != "" && origin != "http://"+r.Host,
			site != "" && site != "same-origin" && site != "none",
			subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1:
			http.Error(w, "open the address that vmm explore has printed, with its token", http.StatusForbidden)
			return
		}
		if !admitted(r) {
			http.Error(w, "too many connections: close another page", http.StatusServiceUnavailable)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // the address has the token
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// call carries out a request of the page.
func call(w http.ResponseWriter, r *http.Request, m Machine) {
	if r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "a request is application/json", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var request control.Request
	if err := json.Unmarshal(body, &request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !slices.Contains(allowed, request.Command) {
		http.Error(w, fmt.Sprintf("%q is not for pages", request.Command), http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	answer, err := m.Call(request)
	if err != nil {
		answer.Error = err.Error()
		if errors.Is(err, control.ErrEnded) {
			w.WriteHeader(http.StatusGone)
		}
	}
	_ = json.NewEncoder(w).Encode(answer) // a client that left needs no answer
}
