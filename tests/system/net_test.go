package system

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace of a test's own.
type namespace string

func newNamespace(t testing.TB) namespace {
	t.Helper()
	name := fmt.Sprintf("vmm-%d-%d", os.Getpid(), rand.Uint32())
	host(t, "ip", "netns", "add", name)
	t.Cleanup(func() { host(t, "ip", "netns", "delete", name) })
	n := namespace(name)
	n.ip(t, "link", "set", "lo", "up")
	return n
}

// words are the command that runs another in the namespace.
func (n namespace) words() []string { return []string{"ip", "netns", "exec", string(n)} }

// ip runs ip in the namespace.
func (n namespace) ip(t testing.TB, args ...string) {
	t.Helper()
	host(t, "ip", append([]string{"-n", string(n)}, args...)...)
}

// run runs a command in the namespace.
func (n namespace) run(t testing.TB, args ...string) string {
	t.Helper()
	args = append(n.words(), args...)
	return host(t, args[0], args[1:]...)
}

// listen listens at an address of the namespace.
func (n namespace) listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	type result struct {
		net.Listener
		error
	}
	done := make(chan result)
	go func() {
		// The thread stays in the namespace, and ends with the goroutine.
		runtime.LockOSThread()
		f, err := os.Open("/run/netns/" + string(n))
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, err}
			return
		}
		var config net.ListenConfig
		l, err := config.Listen(context.Background(), "tcp", addr)
		done <- result{l, err}
	}()
	r := <-done
	if r.error != nil {
		t.Fatal(r.error)
	}
	return r.Listener
}

// download serves size random bytes over HTTP, and returns their SHA-256.
func download(t testing.TB, l net.Listener, size int64) string {
	t.Helper()
	piece := make([]byte, 4*mib)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(piece)
	sum := sha256.New()
	for left := size; left > 0; left -= int64(len(piece)) {
		_, _ = sum.Write(piece[:min(left, int64(len(piece)))])
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for left := size; left > 0; left -= int64(len(piece)) {
			if _, err := w.Write(piece[:min(left, int64(len(piece)))]); err != nil {
				return // the client sees it
			}
		}
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// downloadSize is how much the guests download: 1 GiB; less in the lab, which
// takes minutes for that, except in make test-io.
func downloadSize() int64 {
	if inLab() && os.Getenv("VMM_FULL") == "" {
		return 64 * mib
	}
	return 1 << 30
}

// A card on a tap device, in a namespace where nothing else is.
func TestTap(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		ns := newNamespace(t)
		ns.ip(t, "tuntap", "add", "tap0", "mode", "tap", "vnet_hdr", "multi_queue")
		ns.ip(t, "addr", "add", "192.0.2.1/24", "dev", "tap0")
		ns.ip(t, "link", "set", "tap0", "mtu", "9000", "up")
		size := downloadSize()
		want := download(t, ns.listen(t, "192.0.2.1:80"), size)
		v := serveIn(t, ns.words(), "--transport", transport, "--cpus", "2", "--net", "tap=tap0,queues=2,mtu=9000,mac=02:00:00:00:00:07")
		v.sh("ip link set lo up; ip link set eth0 up && ip addr add 192.0.2.2/24 dev eth0")
		if got := v.sh("cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address; ls -1 /sys/class/net/eth0/queues"); got != "9000\n02:00:00:00:00:07\nrx-0\nrx-1\ntx-0\ntx-1" {
			t.Errorf("MTU, address and queues: %s", got)
		}

		// Frames of every size, unfragmented.
		v.sh("ping -c 3 -W 5 -i 0.2 192.0.2.1 && ping -c 3 -W 5 -i 0.2 -M do -s 8972 192.0.2.1")
		ns.run(t, "ping", "-c", "3", "-W", "5", "-i", "0.2", "-M", "do", "-s", "8972", "192.0.2.2")

		// Load both ways, on both queues.
		v.sh("iperf3 -s -D")
		for _, flags := range [][]string{nil, {"-R"}, {"-P", "4"}, {"-u", "-b", "20M"}} {
			before := v.status().Exits
			out := ns.run(t, append([]string{"iperf3", "-c", "192.0.2.2", "-t", "3", "-J"}, flags...)...)
			exits := v.status().Exits - before
			var report struct {
				End struct {
					Received struct {
						BitsPerSecond float64 `json:"bits_per_second"`
					} `json:"sum_received"`
					Sum struct {
						BitsPerSecond float64 `json:"bits_per_second"`
					}
				}
			}
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			rate := report.End.Received.BitsPerSecond + report.End.Sum.BitsPerSecond
			if rate < 1e6 {
				t.Errorf("iperf3 %v: %.0f bits a second", flags, rate)
			}
			t.Logf("iperf3 %v: %.0f Mbit/s, %d exits", flags, rate/1e6, exits)
		}

		if got := firstWord(v.sh("curl -s http://192.0.2.1/ | sha256sum")); got != want {
			t.Errorf("%d bytes over HTTP: %s; want %s", size, got, want)
		}

		// The cable.
		v.ctl("link", "0", "down")
		v.sh(`for i in $(seq 100); do [ $(cat /sys/class/net/eth0/carrier) = 0 ] && exit; sleep 0.1; done; exit 1`)
		if out, status := v.try("ping -c 1 -W 1 192.0.2.1"); status == 0 {
			t.Errorf("a ping without a cable: %s", out)
		}
		v.ctl("link", "0", "up")
		v.sh(`for i in $(seq 100); do [ $(cat /sys/class/net/eth0/carrier) = 1 ] && exit; sleep 0.1; done; exit 1`)
		v.sh("ping -c 3 -W 5 -i 0.2 192.0.2.1")
		v.powerOff()
	})
}

// A network of user mode: out to a server on the host's loopback, in through a
// forwarded port, and names.
func TestUserNetwork(t *testing.T) {
	transports(t, func(t *testing.T, transport string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		size := downloadSize() / 2
		want := download(t, l, size)
		port := freePort(t)
		pcap := filepath.Join(t.TempDir(), "pcap")
		v := serveIn(t, nameServer(t), "--transport", transport, "--net", fmt.Sprintf("user,loopback,hostfwd=tcp:127.0.0.1:%d-:80,pcap=%s", port, pcap))
		v.sh("mkdir -p /run/systemd/netif /run/dbus $(dirname $(readlink -m /etc/resolv.conf)); ip link set lo up; ip link set eth0 up; " +
			"ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; echo nameserver 10.0.2.2 >/etc/resolv.conf")

		if got := firstWord(v.sh("curl -s http://host.vmm.internal:%d/ | sha256sum", l.Addr().(*net.TCPAddr).Port)); got != want {
			t.Errorf("%d bytes over HTTP: %s; want %s", size, got, want)
		}
		if got := v.sh("getent ahostsv4 www.example.com | head -1"); firstWord(got) != "192.0.2.80" {
			t.Errorf("the name of a server: %q", got)
		}

		v.sh("mkdir /srv/www && echo from the guest >/srv/www/index.html && cd /srv/www && (python3 -m http.server 80 >/dev/null 2>&1 &)")
		client := &http.Client{Timeout: 20 * time.Second}
		get := func() (string, error) {
			answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
			if err != nil {
				return "", err
			}
			defer answer.Body.Close()
			text, err := io.ReadAll(answer.Body)
			return string(text), err
		}
		got, err := get()
		for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); got, err = get() {
			time.Sleep(100 * time.Millisecond) // until it listens
		}
		if err != nil || got != "from the guest\n" {
			t.Errorf("through the forwarded port: %q, %v", got, err)
		}
		v.powerOff()
		if info, err := os.Stat(pcap); err != nil || info.Size() < size {
			t.Errorf("recorded frames: %v, %v", info, err)
		}
	})
}

// nameServer starts a server that knows one name, and returns a command that
// starts another with it as the host's resolver.
func nameServer(t testing.TB) []string {
	t.Helper()
	const addr = "127.0.0.77"
	c, err := net.ListenPacket("udp", addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg)
		a.SetReply(q)
		if q.Question[0].Name == "www.example.com." && q.Question[0].Qtype == dns.TypeA {
			record, err := dns.NewRR("www.example.com. 60 IN A 192.0.2.80")
			if err != nil {
				t.Error(err)
			}
			a.Answer = append(a.Answer, record)
		}
		_ = w.WriteMsg(a) // the client asks again
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver "+addr+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"unshare", "--mount", "sh", "-ec", `mount --bind "$0" /etc/resolv.conf; exec "$@"`, resolv}
}
