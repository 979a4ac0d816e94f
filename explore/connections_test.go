package explore

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// get asks for the page with a client of its own, and returns the status.
func get(t *testing.T, url string) int {
	t.Helper()
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// Connections that say nothing, or know no token, keep nobody else out, however many
// there are.
func TestSilentConnectionsGiveWay(t *testing.T) {
	addr, prefix := served(t, machine{})
	for _, text := range []string{"", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		for range 3 * maxStrangers {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			_, _ = c.Write([]byte(text)) // it may be closed already
		}
		if status := get(t, "http://"+addr+prefix); status != http.StatusOK {
			t.Errorf("after connections that say %q: status %d", text, status)
		}
	}
}

// A page that is open stays so.
func TestKnownConnectionStays(t *testing.T) {
	addr, prefix := served(t, machine{})
	var used []net.Conn
	page := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			used = append(used, c)
			return c, err
		},
	}}
	for range 3 {
		answer, err := page.Get("http://" + addr + prefix)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body) // all of it, or the connection is of no more use
		answer.Body.Close()
		for range 2 * maxStrangers {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}
		time.Sleep(50 * time.Millisecond) // the server accepts them
	}
	if len(used) != 1 {
		t.Errorf("the page needed %d connections, want one that stays", len(used))
	}
}

// The connections of another user go first, though they are newer.
func TestConnectionsAreCountedByUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to be another user too")
	}
	addr, prefix := served(t, machine{})
	mine, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	_, port, _ := net.SplitHostPort(addr)
	// Another user: a shell, which keeps what it has opened.
	script := "i=10; while [ $i -lt " + strconv.Itoa(10+2*maxStrangers) + " ]; do eval \"exec $i<>/dev/tcp/127.0.0.1/" + port + "\"; i=$((i+1)); done; echo done; read x"
	other := exec.Command("bash", "-c", script)
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = other.Wait() }()
	if n, err := out.Read(make([]byte, 10)); err != nil || n == 0 {
		t.Fatalf("the other user: %d, %v", n, err)
	}
	request := "GET " + prefix + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"
	_ = mine.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := mine.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 100)
	if n, err := mine.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200") {
		t.Errorf("the first connection: %q, %v", answer[:n], err)
	}
}

func TestIdentify(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err)
			continue
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		n := &connection{Conn: turned{c}}
		identify([]*connection{n})
		if want := strconv.Itoa(os.Getuid()); n.user != want {
			t.Errorf("%s: user %q, want %q", addr, n.user, want)
		}
	}
}

// turned is a connection seen from its other end.
type turned struct{ net.Conn }

func (t turned) LocalAddr() net.Addr  { return t.Conn.RemoteAddr() }
func (t turned) RemoteAddr() net.Addr { return t.Conn.LocalAddr() }
