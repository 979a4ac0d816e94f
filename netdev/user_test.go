package netdev

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vmm/sandbox"
)

func TestParseForward(t *testing.T) {
	for s, want := range map[string]Forward{
		"tcp:127.0.0.1:8080-:80": {Host: netip.MustParseAddrPort("127.0.0.1:8080"), Port: 80},
		"udp:0.0.0.0:5353-:53":   {UDP: true, Host: netip.MustParseAddrPort("0.0.0.0:5353"), Port: 53},
		"tcp::8080-:80":          {Host: netip.MustParseAddrPort("127.0.0.1:8080"), Port: 80},
		"tcp:[::1]:8080-:80":     {Host: netip.MustParseAddrPort("[::1]:8080"), Port: 80},
	} {
		if got, err := ParseForward(s); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "tcp", "tcp:", "sctp::1-:2", "tcp:8080-:80", "tcp::8080", "tcp::8080-80", "tcp::8080-:0",
		"tcp::8080-:65536", "tcp::8080-:80x", "tcp::8080-:+80", "tcp:host:8080-:80", "tcp::99999-:80",
	} {
		if got, err := ParseForward(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestParsePortRange(t *testing.T) {
	for s, want := range map[string]PortRange{"1": {1, 1}, "5432": {5432, 5432}, "8000-8080": {8000, 8080}, "1-65535": AllPorts} {
		if got, err := ParsePortRange(s); err != nil || got != want || got.String() != s {
			t.Errorf("%s: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "-", "0", "0-5", "5-", "-5", "5-4", "65536", "1-65536", "+5", "5-+6", "http", "1-2-3", " 5", "5 "} {
		if got, err := ParsePortRange(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestParseAddresses(t *testing.T) {
	for s, want := range map[string]string{"192.168.1.0/24": "192.168.1.0/24", "10.1.2.3": "10.1.2.3/32", "0.0.0.0/0": "0.0.0.0/0"} {
		if got, err := ParseAddresses(s); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "10", "10.1.2.3/8", "10.0.0.0/33", "::1", "fd00::/8", "host", "10.0.0.0/8,"} {
		if got, err := ParseAddresses(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// What a network is configured with reaches its process as it is.
func TestUserArguments(t *testing.T) {
	want := UserConfig{
		Forwards: []Forward{{Host: netip.MustParseAddrPort("[::1]:8080"), Port: 80}, {UDP: true, Host: netip.MustParseAddrPort("0.0.0.0:53"), Port: 53}},
		Loopback: []PortRange{{22, 22}, {8000, 8080}},
		Allow:    []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("10.1.2.3/32")},
		Sandbox:  sandbox.Strict,
	}
	got, err := ParseUser(want.args())
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// user connects a network of user mode to a namespace, whose Linux is its guest.
func user(t testing.TB, c UserConfig) (namespace, *User) {
	t.Helper()
	ns := newNamespace(t)
	tap := ns.tap(t, "eth0", 1)
	if err := tap.SetOffload(unix.TUN_F_CSUM); err != nil {
		t.Fatal(err)
	}
	u, err := NewUser(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.SetOffload(unix.TUN_F_CSUM); err != nil {
		t.Fatal(err)
	}
	ns.run(t, fmt.Sprintf("ip link set eth0 mtu %d up", u.MTU()))
	stop, stopped := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		cable(stop, int32(tap.FDs()[0]), int32(u.FDs()[0]))
	}()
	t.Cleanup(func() {
		stopped()
		<-done
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	script := filepath.Join(t.TempDir(), "lease")
	body := "#!/bin/sh\n[ $1 = bound ] || exit 0\nip addr add $ip/$mask dev eth0\nip route add default via $router\necho $ip/$mask $router $dns $mtu\n"
	if err := os.WriteFile(script, []byte(body), 0o700); err != nil {
		t.Fatal(err)
	}
	out := ns.run(t, "busybox udhcpc -f -q -n -t 20 -T 1 -O mtu -i eth0 -s "+script)
	if want := "10.0.2.15/24 10.0.2.2 10.0.2.2 65520"; !strings.Contains(out, want) {
		t.Fatalf("DHCP says %q; want %q", out, want)
	}
	return ns, u
}

// cable copies frames both ways, with their headers.
func cable(stop context.Context, a, b int32) {
	buf := make([]byte, 1<<17)
	for stop.Err() == nil {
		fds := []unix.PollFd{{Fd: a, Events: unix.POLLIN}, {Fd: b, Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, 20)
		for _, ends := range [][2]int32{{a, b}, {b, a}} {
			n, err := unix.Read(int(ends[0]), buf)
			if err != nil || n == 0 {
				continue
			}
			for stop.Err() == nil {
				_, err := unix.Write(int(ends[1]), buf[:n])
				if err != unix.EAGAIN {
					break
				}
				_, _ = unix.Poll([]unix.PollFd{{Fd: ends[1], Events: unix.POLLOUT}}, 20)
			}
		}
	}
}

// client makes HTTP connections from the namespace.
func (ns namespace) client() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
			ns.do(func() { c, err = net.DialTimeout(network, addr, 10*time.Second) })
			return c, err
		},
		DisableKeepAlives: true,
	}}
}

func get(client *http.Client, url string) ([]byte, error) {
	r, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

// The guest reaches the host, and the host the guest.
func TestUser(t *testing.T) {
	// A port that is free, as far as one can know.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	ns, _ := user(t, UserConfig{
		Forwards: []Forward{{Host: in, Port: 80}, {UDP: true, Host: in, Port: 5000}},
		Loopback: []PortRange{AllPorts},
	})

	data := make([]byte, 20<<20)
	_, _ = rand.Read(data)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			sum := sha256.New()
			_, _ = io.Copy(sum, r.Body)
			_, _ = w.Write(sum.Sum(nil))
			return
		}
		_, _ = w.Write(data)
	}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())

	t.Run("out", func(t *testing.T) {
		got, err := get(ns.client(), "http://10.0.2.4:"+port)
		if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
			t.Errorf("%d bytes, %v; want the server's %d", len(got), err, len(data))
		}
		r, err := ns.client().Post("http://10.0.2.4:"+port, "", strings.NewReader(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		sum, _ := io.ReadAll(r.Body)
		if want := sha256.Sum256(data); string(sum) != string(want[:]) {
			t.Error("the server received something else")
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		start := time.Now()
		if _, err := get(ns.client(), "http://10.0.2.4:1"); err == nil || time.Since(start) > 5*time.Second {
			t.Errorf("%v after %v; want to be refused at once", err, time.Since(start))
		}
	})
	t.Run("in", func(t *testing.T) {
		var inside net.Listener
		var echo net.PacketConn
		ns.do(func() {
			if inside, err = net.Listen("tcp", "10.0.2.15:80"); err == nil {
				echo, err = net.ListenPacket("udp", "10.0.2.15:5000")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer echo.Close()
		guest := &httptest.Server{Listener: inside, Config: &http.Server{Handler: server.Config.Handler}}
		guest.Start()
		defer guest.Close()
		got, err := get(&http.Client{Timeout: 30 * time.Second}, "http://"+in.String())
		if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
			t.Errorf("%d bytes, %v; want the guest's %d", len(got), err, len(data))
		}
		go func() {
			b := make([]byte, 100)
			n, from, err := echo.ReadFrom(b)
			if err == nil {
				_, _ = echo.WriteTo(b[:n], from)
			}
		}()
		c, err := net.Dial("udp", in.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 100)
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(b); err != nil || string(b[:n]) != "ping" {
			t.Errorf("UDP: %q, %v", b[:n], err)
		}
	})
	t.Run("names", func(t *testing.T) {
		for _, network := range []string{"udp", "tcp"} {
			resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (c net.Conn, err error) {
				ns.do(func() { c, err = net.Dial(network, "10.0.2.2:53") })
				return c, err
			}}
			for name, want := range map[string]string{"host.vmm.internal.": "10.0.2.4", "gateway.vmm.internal.": "10.0.2.2"} {
				got, err := resolver.LookupHost(t.Context(), name)
				if err != nil || len(got) != 1 || got[0] != want {
					t.Errorf("%s: %s is %v, %v; want %s", network, name, got, err, want)
				}
			}
		}
	})
	t.Run("ping", func(t *testing.T) { ns.run(t, "busybox ping -c 1 -W 10 10.0.2.2") })
}

func TestUserErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	_, err = NewUser(UserConfig{Forwards: []Forward{{Host: at, Port: 80}}})
	if err == nil || !strings.Contains(err.Error(), "address already in use; choose another") {
		t.Errorf("a port that is taken: %v", err)
	}
}

// Nothing is left behind by networks that came and went.
func TestUserClose(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:0")
	before := openFiles(t)
	for range 10 {
		u, err := NewUser(UserConfig{Forwards: []Forward{{Host: at, Port: 80}}})
		if err != nil {
			t.Fatal(err)
		}
		// Nonsense from the guest does no harm.
		for n := range 80 {
			_, _ = unix.Write(u.FDs()[0], make([]byte, n))
		}
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := openFiles(t); after > before+2 {
		t.Errorf("%d files open before, %d after", before, after)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// BenchmarkUser moves data over one connection of the guest's, in pieces of
// 1 MiB.
func BenchmarkUser(b *testing.B) {
	for _, send := range []bool{true, false} {
		b.Run(map[bool]string{true: "send", false: "receive"}[send], func(b *testing.B) {
			ns, _ := user(b, UserConfig{Loopback: []PortRange{AllPorts}})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			var c net.Conn
			ns.do(func() { c, err = net.Dial("tcp", "10.0.2.4:"+fmt.Sprint(l.Addr().(*net.TCPAddr).Port)) })
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			far, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer far.Close()
			from, to := far, c
			if send {
				from, to = c, far
			}
			const piece = 1 << 20
			total := int64(b.N) * piece
			b.SetBytes(piece)
			b.ResetTimer()
			go func() {
				for data := make([]byte, piece); ; {
					if _, err := from.Write(data); err != nil {
						return // the benchmark has ended
					}
				}
			}()
			if _, err := io.CopyBuffer(io.Discard, io.LimitReader(struct{ io.Reader }{to}, total), make([]byte, piece)); err != nil {
				b.Fatal(err)
			}
		})
	}
}
