package rest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// driver is the service in C, with the sanitizers of addresses and of undefined
// behaviour, behind pipes: fuzz.c. Errors in it end it.
type driver struct {
	mu     sync.Mutex
	in     io.Writer
	out    *bufio.Reader
	stderr bytes.Buffer
}

func startDriver(t testing.TB) *driver {
	t.Helper()
	dir, program := "../../guest-images/app/c", filepath.Join(t.TempDir(), "fuzz")
	args := []string{"-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", program}
	for _, file := range []string{"fuzz.c", "http.c", "service.c", "integers.c"} {
		args = append(args, filepath.Join(dir, file))
	}
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	d := &driver{}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "ASAN_OPTIONS=detect_leaks=1")
	cmd.Stderr = &d.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("at its end: %v\n%s", err, &d.stderr)
		}
	})
	d.in, d.out = in, bufio.NewReader(out)
	return d
}

// run is what the service answers to the bytes of a client.
func (d *driver) run(input []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.in.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(input))), input...)); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, &d.stderr)
	}
	var n uint32
	if err := binary.Read(d.out, binary.LittleEndian, &n); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, &d.stderr)
	}
	output := make([]byte, n)
	_, err := io.ReadFull(d.out, output)
	return output, err
}

// FuzzHTTP sends the service what clients may not. Whatever that is, and however
// it is cut into pieces, the answers are the same, and responses in good order
// of statuses that it has.
func FuzzHTTP(f *testing.F) {
	for _, seed := range []string{
		get("/"), get("/todos/3") + get("/todos?x=y"), get("http://test/todos"),
		post("/sort", "[3,-1, 2]"), post("/sort", "[9223372036854775807,-9223372036854775808,1e3]"),
		chunked("/sort", "[1,", "0]"), "HEAD /todos HTTP/1.0\r\nConnection: keep-alive, x\r\n\r\n",
		"POST /sort HTTP/1.1\nHost:\nExpect: 100-continue\nContent-Length: 2\n\n[]",
		"POST /sort HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n[]\r\n0\r\nX: y\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "\r\n\r\n" + get("/"),
		"GET /" + strings.Repeat("x", 600) + " HTTP/1.1\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	d := startDriver(f)
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 1<<20 {
			return
		}
		output, err := d.run(input)
		if err != nil {
			t.Fatal(err)
		}
		for in := bufio.NewReaderSize(bytes.NewReader(output), len(output)+1); ; {
			if _, err := in.Peek(1); err == io.EOF {
				break
			}
			// Without a body, it is the answer to HEAD.
			method := "GET"
			next, _ := in.Peek(in.Buffered())
			_, rest, _ := bytes.Cut(next, []byte("\r\n\r\n"))
			if len(rest) == 0 || bytes.HasPrefix(rest, []byte("HTTP/")) {
				method = "HEAD"
			}
			r, err := http.ReadResponse(in, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("response: %v\n%q", err, output)
			}
			if method == "GET" {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Fatalf("body: %v\n%q", err, output)
				}
			}
			switch r.StatusCode {
			case 100, 200, 400, 404, 405, 413, 414, 417, 431, 501, 505:
			default:
				t.Fatalf("status %d\n%q", r.StatusCode, output)
			}
		}
	})
}
