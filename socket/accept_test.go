package socket

import (
	"errors"
	"net"
	"testing"
)

// flaky is a listener whose every second Accept fails.
type flaky struct {
	net.Listener
	calls int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.calls++; f.calls%2 == 1 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestAccept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		Accept(&flaky{Listener: l}, func(c net.Conn) {
			c.Close()
			came <- true
		})
	}()
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		<-came
	}
	l.Close()
	<-done
}
