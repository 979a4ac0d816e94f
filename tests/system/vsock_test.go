package system

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A hundred connections at a time between programs of guest and host, begun by
// either side: each gets back what it has sent, to the last byte and the end.
func TestVsock(t *testing.T) {
	const connections, size = 100, 64 << 10
	transports(t, func(t *testing.T, transport string) {
		path := filepath.Join(t.TempDir(), "vsock")
		v := serve(t, "--transport", transport, "--vsock", "cid=52,uds="+path)

		// From host to guest.
		v.listen(path, 5000)
		var group sync.WaitGroup
		for i := range connections {
			group.Go(func() {
				if err := echoed(path, 5000, uint64(i), size); err != nil {
					t.Errorf("connection %d of the host: %v", i, err)
				}
			})
		}
		group.Wait()

		// From guest to host.
		l, err := net.Listen("unix", path+"_6000")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		accepted := 0
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return // closed
				}
				accepted++
				go func() {
					defer c.Close()
					_, _ = io.Copy(c, c) // the guest counts what comes back
				}()
			}
		}()
		v.sh(`set -eu
mkdir /root/v && cd /root/v
for i in $(seq %d); do head -c %d /dev/urandom >$i; done
back() { # Linux waits 2 s for an answer, in which a hundred processes start here
  until socat -t 60 - VSOCK-CONNECT:2:6000 <$1 >$1.back 2>$1.error; do grep -q 'timed out' $1.error; done
}
for i in $(seq %[1]d); do back $i & done
wait
for i in $(seq %[1]d); do cmp $i $i.back; done`, connections, size)
		if accepted < connections {
			t.Errorf("%d connections of the guest; want %d", accepted, connections)
		}

		// Nobody listens.
		if err := echoed(path, 5001, 0, 1); err == nil {
			t.Error("a port that nobody listens at answers")
		}
		if out, status := v.try("socat - VSOCK-CONNECT:2:6001 </dev/null"); status == 0 {
			t.Errorf("a port of the host that nobody listens at: %s", out)
		}
		v.powerOff()
	})
}

// listen has the guest echo what comes to a port, and waits until it does.
func (v *vm) listen(path string, port int) {
	v.t.Helper()
	v.sh("socat VSOCK-LISTEN:%d,backlog=128,fork EXEC:cat >/dev/null 2>&1 &", port)
	for end := time.Now().Add(shTimeout); ; time.Sleep(50 * time.Millisecond) {
		err := echoed(path, port, 0, 1)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			v.fail(fmt.Sprintf("vsock port %d: %v", port, err))
		}
	}
}

// echoed connects to a port of the guest, sends random bytes, ends, and expects
// them back, and the end.
func echoed(path string, port int, seed uint64, size int) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(shTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "CONNECT %d\n", port); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "OK ") {
		return fmt.Errorf("answer %q, %w", line, err)
	}
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		if err == nil {
			err = c.(*net.UnixConn).CloseWrite()
		}
		sent <- err
	}()
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%d of %d bytes, or others, come back", len(got), len(data))
	}
	return <-sent
}
