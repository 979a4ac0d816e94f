package explore

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmm/control"
)

// machine answers every request with its command.
type machine struct{ err error }

func (m machine) Call(r control.Request) (control.Response, error) {
	return control.Response{Result: []byte(`"` + r.Command + `"`)}, m.err
}

// served is a server of m, its address and the prefix of its pages.
func served(t *testing.T, m Machine) (addr, prefix string) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	token := NewToken()
	s := NewServer(l, token, m)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return l.Addr().String(), "/" + token + "/"
}

func TestListen(t *testing.T) {
	for _, bad := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:80", "example.org:80", ":80", "127.0.0.1", ""} {
		if l, err := Listen(bad); err == nil {
			l.Close()
			t.Errorf("it listens at %q", bad)
		}
	}
}

// Nobody is answered but the page itself.
func TestGuard(t *testing.T) {
	addr, prefix := served(t, machine{})
	_, port, _ := net.SplitHostPort(addr)
	const json = "application/json"
	tests := []struct {
		name         string
		method, path string
		header       map[string]string
		body         string
		want         int
	}{
		{"the page", "GET", prefix, nil, "", 200},
		{"by name", "GET", prefix, map[string]string{"Host": "localhost:" + port}, "", 200},
		{"its script", "GET", prefix + "app.js", map[string]string{"Sec-Fetch-Site": "same-origin"}, "", 200},
		{"a request", "POST", prefix + "call", map[string]string{"Content-Type": json, "Origin": "http://" + addr}, `{"command":"status"}`, 200},
		{"no token", "GET", "/", nil, "", 403},
		{"another token", "GET", "/" + strings.Repeat("A", 26) + "/", nil, "", 403},
		{"half a token", "GET", prefix[:10] + "/", nil, "", 403},
		{"another name for the host", "GET", prefix, map[string]string{"Host": "evil.example:" + port}, "", 403},
		{"another origin", "POST", prefix + "call", map[string]string{"Content-Type": json, "Origin": "http://evil.example"}, `{"command":"pause"}`, 403},
		{"from another site", "GET", prefix, map[string]string{"Sec-Fetch-Site": "cross-site"}, "", 403},
		{"a form", "POST", prefix + "call", map[string]string{"Content-Type": "text/plain"}, `{"command":"pause"}`, 415},
		{"a command that is not for pages", "POST", prefix + "call", map[string]string{"Content-Type": json}, `{"command":"stop"}`, 403},
		{"no request", "POST", prefix + "call", map[string]string{"Content-Type": json}, `{"command":`, 400},
		{"a long request", "POST", prefix + "call", map[string]string{"Content-Type": json}, strings.Repeat(" ", maxRequest+1), 413},
		{"a request by GET", "GET", prefix + "call", nil, "", 405},
		{"a file of the host", "GET", prefix + "..%2f..%2fexplore.go", nil, "", 404},
	}
	for _, tt := range tests {
		r, err := http.NewRequest(tt.method, "http://"+addr+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range tt.header {
			r.Header.Set(name, value)
		}
		r.Host = r.Header.Get("Host")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != tt.want {
			t.Errorf("%s: status %d; want %d", tt.name, answer.StatusCode, tt.want)
		}
		if tt.want == 200 && answer.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: no policy", tt.name)
		}
	}
}

// A machine that is gone is told apart from one that refuses.
func TestEnded(t *testing.T) {
	for err, want := range map[error]int{errors.New("not now"): 200, control.ErrEnded: 410} {
		addr, prefix := served(t, machine{err})
		answer, fail := http.Post("http://"+addr+prefix+"call", "application/json", strings.NewReader(`{"command":"status"}`))
		if fail != nil {
			t.Fatal(fail)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != want || !strings.Contains(string(text), err.Error()) {
			t.Errorf("%v: status %d, %s", err, answer.StatusCode, text)
		}
	}
}

// What is no HTTP, and clients that say nothing, keep nobody else out.
func TestBadClients(t *testing.T) {
	addr, prefix := served(t, machine{})
	for _, bad := range []string{"", "\x16\x03\x01", "GET /\r\n", "GET " + prefix + " HTTP/1.1\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n",
		"POST " + prefix + "call HTTP/1.1\r\nHost: " + addr + "\r\nContent-Length: 18446744073709551616\r\n\r\n"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, bad)
	}
	answer, err := http.Get("http://" + addr + prefix)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 200 {
		t.Errorf("status %d", answer.StatusCode)
	}
}

// large answers with more than connections hold.
type large struct{}

func (large) Call(control.Request) (control.Response, error) {
	return control.Response{Result: []byte(`"` + strings.Repeat("x", 16<<20) + `"`)}, nil
}

// A client that does not read its answer keeps nobody else waiting, and is dropped.
func TestSlowReader(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	token := NewToken()
	s := NewServer(l, token, large{})
	if s.WriteTimeout != requestFor || s.ReadTimeout != requestFor || s.ReadHeaderTimeout != headerFor {
		t.Errorf("time limits: %v, %v, %v", s.WriteTimeout, s.ReadTimeout, s.ReadHeaderTimeout)
	}
	s.WriteTimeout = 2 * time.Second // the same, in less time
	closed := make(chan string, 8)
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- c.RemoteAddr().String()
		}
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	addr := l.Addr().String()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const request = `{"command":"status"}`
	_, _ = fmt.Fprintf(c, "POST /%s/call HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		token, addr, len(request), request)

	answer, err := http.Get("http://" + addr + "/" + token + "/app.js")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 200 {
		t.Errorf("meanwhile, another has status %d", answer.StatusCode)
	}
	for late := time.After(20 * time.Second); ; {
		select {
		case client := <-closed:
			if client == c.LocalAddr().String() {
				return
			}
		case <-late:
			t.Fatal("it is still connected")
		}
	}
}
