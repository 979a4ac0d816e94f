// Package rest checks implementations of the REST service of guest-images/app
// against each other: whatever the language, and whatever they run on, they
// answer the same.
package rest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Bounds of the service.
const (
	maxBody = 256 << 10

	// Largest is the largest array that is sorted.
	Largest = 16384
)

// patience is how long an answer may take: a guest may run on an emulated
// processor, and sort 16384 numbers there.
const patience = 2 * time.Minute

const todoList = `[{"id":1,"title":"Read the paper","done":true},{"id":2,"title":"Start a container","done":true},` +
	`{"id":3,"title":"Start a virtual machine","done":false},{"id":4,"title":"Start a unikernel","done":false},` +
	`{"id":5,"title":"Compare them","done":false}]` + "\n"

const (
	greeting   = `{"service":"todos"}` + "\n"
	badRequest = `{"error":"bad request"}` + "\n"
	notFound   = `{"error":"not found"}` + "\n"
	badMethod  = `{"error":"method not allowed"}` + "\n"
	tooLarge   = `{"error":"content too large"}` + "\n"
)

// Load is how much the service has to do. Bugs do not need much, but a real
// processor does not mind.
type Load struct {
	Numbers   int // of the largest array to be sorted, at most Largest
	Pipelined int // requests without a look at the responses
	Leaving   int // clients that leave in the middle of something
}

// Loads for a processor, emulated perhaps, and for one whose every instruction is
// interpreted.
var (
	Full  = Load{Largest, 2000, 300}
	Light = Load{200, 100, 30}
)

// Conform checks the service at an address.
func Conform(t *testing.T, addr string, load Load) {
	t.Run("requests", func(t *testing.T) { requests(t, addr) })
	t.Run("malformed", func(t *testing.T) { malformed(t, addr) })
	t.Run("integers", func(t *testing.T) { integers(t, addr) })
	t.Run("sizes", func(t *testing.T) { sizes(t, addr, load.Numbers) })
	if load == Full {
		t.Run("bodies", func(t *testing.T) { bodies(t, addr) })
	}
	t.Run("keep-alive", func(t *testing.T) { keepAlive(t, addr) })
	t.Run("close", func(t *testing.T) { closing(t, addr) })
	t.Run("pipelining", func(t *testing.T) { pipelining(t, addr, load.Pipelined) })
	t.Run("byte by byte", func(t *testing.T) { byteByByte(t, addr) })
	t.Run("expect", func(t *testing.T) { expect(t, addr) })
	t.Run("slow reader", func(t *testing.T) { slowReader(t, addr, load.Numbers) })
	t.Run("many clients", func(t *testing.T) { manyClients(t, addr) })
	t.Run("clients that leave", func(t *testing.T) { leaving(t, addr, load.Leaving) })
}

// client is a connection.
type client struct {
	t testing.TB
	*net.TCPConn
	in *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t, conn.(*net.TCPConn), bufio.NewReader(conn)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (c *client) receive(method string) answer {
	c.t.Helper()
	r, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("response: %v", err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatalf("response of status %d: %v", r.StatusCode, err)
	}
	return answer{r.StatusCode, r.Header, string(body)}
}

// expectEnd expects that the connection ends, by whatever means.
func (c *client) expectEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.in)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		c.t.Error("the connection did not end")
	}
	if len(rest) > 0 {
		c.t.Errorf("after the last response came %q", rest)
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n" }

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

func chunked(path string, chunks ...string) string {
	s := "POST " + path + " HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, c := range append(chunks, "") {
		s += fmt.Sprintf("%x\r\n%s", len(c), c)
		if c != "" {
			s += "\r\n"
		}
	}
	return s + "\r\n"
}

func item(i int) string {
	var all []json.RawMessage
	if err := json.Unmarshal([]byte(todoList), &all); err != nil {
		panic(err)
	}
	return string(all[i-1]) + "\n"
}

// All of these go over one connection.
func requests(t *testing.T, addr string) {
	tests := []struct {
		name, request string
		status        int
		body          string
		allow         string
	}{
		{"greeting", get("/"), 200, greeting, ""},
		{"list", get("/todos"), 200, todoList, ""},
		{"first item", get("/todos/1"), 200, item(1), ""},
		{"last item", get("/todos/5"), 200, item(5), ""},
		{"no such item", get("/todos/6"), 404, notFound, ""},
		{"item zero", get("/todos/0"), 404, notFound, ""},
		{"item with a leading zero", get("/todos/01"), 404, notFound, ""},
		{"item that is no number", get("/todos/x"), 404, notFound, ""},
		{"list with a slash", get("/todos/"), 404, notFound, ""},
		{"nothing there", get("/nothing"), 404, notFound, ""},
		{"escapes", get("/%74odos"), 404, notFound, ""},
		{"query", get("/todos?page=1&x=/sort"), 200, todoList, ""},
		{"whole URI", get("http://test/todos/2"), 200, item(2), ""},
		{"whole URI without a path", get("http://test"), 200, greeting, ""},
		{"HEAD", "HEAD /todos HTTP/1.1\r\nHost: test\r\n\r\n", 200, "", ""},
		{"HEAD of nothing", "HEAD /nothing HTTP/1.1\r\nHost: test\r\n\r\n", 404, "", ""},
		{"DELETE of the list", "DELETE /todos HTTP/1.1\r\nHost: test\r\n\r\n", 405, badMethod, "GET, HEAD"},
		{"POST to the list", post("/todos", "[1]"), 405, badMethod, "GET, HEAD"},
		{"GET of sort", get("/sort"), 405, badMethod, "POST"},
		{"methods have a case", "get / HTTP/1.1\r\nHost: test\r\n\r\n", 405, badMethod, "GET, HEAD"},
		{"a method of one's own", "BREW / HTTP/1.1\r\nHost: test\r\n\r\n", 405, badMethod, "GET, HEAD"},
		{"PUT to nothing, with a body", "PUT /nothing HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc", 404, notFound, ""},
		{"headers have no case", "POST /sort HTTP/1.1\r\nhOST: test\r\ncONTENT-lENGTH:3 \r\n\r\n[1]", 200, "[1]\n", ""},
		{"headers that do not matter", "GET / HTTP/1.1\r\nHost: test\r\nX-Long: " + strings.Repeat("x", 2000) + "\r\nAccept: */*\r\n\r\n", 200, greeting, ""},
		{"line ends without CR", "GET / HTTP/1.1\nHost: test\n\n", 200, greeting, ""},
		{"a length twice, the same", "POST /sort HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n[]", 200, "[]\n", ""},
		{"sort", post("/sort", "[3,1,2]"), 200, "[1,2,3]\n", ""},
		{"sort without a body", "POST /sort HTTP/1.1\r\nHost: test\r\n\r\n", 400, badRequest, ""},
		{"chunks", chunked("/sort", "[3,", "2", "2,1", "]"), 200, "[1,3,22]\n", ""},
		{"chunks with extensions and trailers",
			"POST /sort HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: Chunked\r\n\r\n003;a=b\r\n[1]\r\n0\r\nX: y\r\n\r\n", 200, "[1]\n", ""},
		{"chunks to a path without use for them", chunked("/todos", "abc"), 405, badMethod, "GET, HEAD"},
	}
	c := dial(t, addr)
	for _, tt := range tests {
		method, _, _ := strings.Cut(tt.request, " ")
		c.send(tt.request)
		got := c.receive(method)
		if got.status != tt.status || got.body != tt.body {
			t.Errorf("%s: %d %q; want %d %q", tt.name, got.status, got.body, tt.status, tt.body)
		}
		if kind := got.header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s: Content-Type %q", tt.name, kind)
		}
		if allow := got.header.Get("Allow"); allow != tt.allow {
			t.Errorf("%s: Allow %q; want %q", tt.name, allow, tt.allow)
		}
	}
}

// After these the connection ends: where the next request begins is not known.
func malformed(t *testing.T, addr string) {
	tests := []struct {
		name, request string
		status        int
	}{
		{"no HTTP", "hello\r\n\r\n", 400},
		{"no version", "GET /\r\n\r\n", 400},
		{"another version", "GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505},
		{"a version that is none", "GET / HTTP/1.x\r\nHost: test\r\n\r\n", 400},
		{"spaces for a target", "GET  HTTP/1.1\r\nHost: test\r\n\r\n", 400},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"no colon", "GET / HTTP/1.1\r\nHost: test\r\nnonsense\r\n\r\n", 400},
		{"no name", "GET / HTTP/1.1\r\nHost: test\r\n: x\r\n\r\n", 400},
		{"space before the colon", "GET / HTTP/1.1\r\nHost: test\r\nX : y\r\n\r\n", 400},
		{"NUL in a header", "GET / HTTP/1.1\r\nHost: test\r\nX: \x00\r\n\r\n", 400},
		{"two lengths", "POST /sort HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[1]", 400},
		{"negative length", "POST /sort HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n", 400},
		{"length that is no number", "POST /sort HTTP/1.1\r\nHost: test\r\nContent-Length: 0x2\r\n\r\n[]", 400},
		{"huge length", "POST /sort HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999999999999999\r\n\r\n[]", 400},
		{"another coding", "POST /sort HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		{"chunk without a size", "POST /sort HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400},
		{"chunk that does not end", "POST /sort HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]0\r\n\r\n", 400},
		{"endless headers", "GET / HTTP/1.1\r\nHost: test\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 64) + "\r\n", 431},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, addr)
			c.send(tt.request)
			if got := c.receive(""); got.status != tt.status {
				t.Errorf("status %d; want %d", got.status, tt.status)
			}
			c.expectEnd()
		})
	}
}

// What is an array of integers, and what is not.
func integers(t *testing.T, addr string) {
	tests := []struct{ body, want string }{ // "" for refused
		{"[]", "[]"},
		{" [ ] ", "[]"},
		{"[1]", "[1]"},
		{"[2,1,2]", "[1,2,2]"},
		{"\t[ -1 ,\r\n0 , -0 ]\n", "[-1,0,0]"},
		{"[9223372036854775807,-9223372036854775808]", "[-9223372036854775808,9223372036854775807]"},
		{"[9223372036854775808]", ""},
		{"[-9223372036854775809]", ""},
		{"[99999999999999999999999999]", ""},
		{"[1,]", ""},
		{"[,1]", ""},
		{"[1 2]", ""},
		{"[1]]", ""},
		{"[1", ""},
		{"[", ""},
		{"1", ""},
		{"{}", ""},
		{"null", ""},
		{"[null]", ""},
		{"[true]", ""},
		{"[\"1\"]", ""},
		{"[[1]]", ""},
		{"[1.0]", ""},
		{"[1e3]", ""},
		{"[01]", ""},
		{"[-]", ""},
		{"[+1]", ""},
		{"[--1]", ""},
		{"[0x1]", ""},
		{"[1]x", ""},
		{"[1]\x00", ""},
		{"\xef\xbb\xbf[1]", ""},
	}
	c := dial(t, addr)
	for _, tt := range tests {
		status, want := 200, tt.want+"\n"
		if tt.want == "" {
			status, want = 400, badRequest
		}
		c.send(post("/sort", tt.body))
		if got := c.receive("POST"); got.status != status || got.body != want {
			t.Errorf("%q: %d %q; want %d %q", tt.body, got.status, got.body, status, want)
		}
	}
}

// array is a random one of n integers, as JSON, and the same sorted.
func array(n int) (text, sorted string) {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(random.Uint32())
	}
	before, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	slices.Sort(v)
	after, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(before), string(after) + "\n"
}

func sizes(t *testing.T, addr string, largest int) {
	c := dial(t, addr)
	for _, n := range []int{1, 2, 63, 64, 65, largest / 3, largest} {
		text, sorted := array(n)
		c.send(post("/sort", text))
		if got := c.receive("POST"); got.status != 200 || got.body != sorted {
			t.Errorf("%d integers: status %d, %d bytes; want %d", n, got.status, len(got.body), len(sorted))
		}
	}
}

// Bodies that are too large, or just not.
func bodies(t *testing.T, addr string) {
	c := dial(t, addr)
	c.send(post("/sort", "["+strings.Repeat("1,", Largest)+"1]"))
	if got := c.receive("POST"); got.status != 413 || got.body != tooLarge {
		t.Errorf("%d integers: %d %q; want 413", Largest+1, got.status, got.body)
	}

	// White space up to the limit, and beyond it.
	c.send(post("/sort", "[1]"+strings.Repeat(" ", maxBody-3)))
	if got := c.receive("POST"); got.status != 200 {
		t.Errorf("a body of %d bytes: %d; want 200", maxBody, got.status)
	}
	for name, request := range map[string]string{
		"body":   post("/sort", "[1]"+strings.Repeat(" ", maxBody-2)),
		"chunks": chunked("/sort", "[1]", strings.Repeat(" ", maxBody-3), " "),
	} {
		c := dial(t, addr)
		go func() { _, _ = io.WriteString(c, request) }() // the end may come first
		if got := c.receive("POST"); got.status != 413 || got.body != tooLarge {
			t.Errorf("too large a %s: %d %q; want 413", name, got.status, got.body)
		}
	}
}

func keepAlive(t *testing.T, addr string) {
	c := dial(t, addr)
	for range 200 {
		c.send(get("/todos"))
		if got := c.receive("GET"); got.status != 200 || got.body != todoList {
			t.Fatalf("%d %q", got.status, got.body)
		}
	}
	c.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
	if got := c.receive("GET"); got.status != 200 || got.header.Get("Connection") != "keep-alive" {
		t.Errorf("HTTP/1.0 with keep-alive: %d, Connection %q", got.status, got.header.Get("Connection"))
	}
	c.send(get("/"))
	c.receive("GET")
}

func closing(t *testing.T, addr string) {
	for name, request := range map[string]string{
		"wish":     "GET / HTTP/1.1\r\nHost: test\r\nConnection: Close\r\n\r\n",
		"list":     "GET / HTTP/1.1\r\nHost: test\r\nConnection: x , close\r\n\r\n",
		"HTTP/1.0": "GET / HTTP/1.0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			c.send(request)
			if got := c.receive("GET"); got.status != 200 || got.body != greeting {
				t.Errorf("%d %q", got.status, got.body)
			}
			c.expectEnd()
		})
	}
	t.Run("half", func(t *testing.T) { // the client's side only
		c := dial(t, addr)
		c.send(get("/"))
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := c.receive("GET"); got.status != 200 {
			t.Errorf("status %d", got.status)
		}
		c.expectEnd()
	})
}

func pipelining(t *testing.T, addr string, n int) {
	c := dial(t, addr)
	text, sorted := array(100)
	c.send(get("/") + post("/sort", text) + get("/todos/3") + get("/nothing") + get("/todos"))
	for i, want := range []string{greeting, sorted, item(3), notFound, todoList} {
		if got := c.receive("GET"); got.body != want {
			t.Errorf("response %d: %q; want %q", i, got.body, want)
		}
	}

	// More than buffers hold, while nobody reads.
	go func() { _, _ = io.WriteString(c, strings.Repeat(get("/todos"), n)) }()
	for i := range n {
		if got := c.receive("GET"); got.body != todoList {
			t.Fatalf("response %d: %q", i, got.body)
		}
	}
}

func byteByByte(t *testing.T, addr string) {
	c := dial(t, addr)
	if err := c.SetNoDelay(true); err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{post("/sort", "[3,-1]"), chunked("/sort", "[3,", "-1]")} {
		for i := range len(request) {
			c.send(request[i : i+1])
			time.Sleep(time.Millisecond)
		}
		if got := c.receive("POST"); got.status != 200 || got.body != "[-1,3]\n" {
			t.Errorf("%d %q", got.status, got.body)
		}
	}
}

func expect(t *testing.T, addr string) {
	c := dial(t, addr)
	c.send("POST /sort HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	interim, err := http.ReadResponse(c.in, nil)
	if err != nil || interim.StatusCode != 100 {
		t.Fatalf("interim response: %v, %v", interim, err)
	}
	c.send("[2,1]")
	if got := c.receive("POST"); got.status != 200 || got.body != "[1,2]\n" {
		t.Errorf("%d %q", got.status, got.body)
	}

	c = dial(t, addr)
	c.send("POST /sort HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: miracles\r\n\r\n")
	if got := c.receive("POST"); got.status != 417 {
		t.Errorf("another expectation: %d; want 417", got.status)
	}
}

// A client that reads little at a time gets all of it, and others are served
// meanwhile.
func slowReader(t *testing.T, addr string, largest int) {
	text, sorted := array(largest)
	slow := dial(t, addr)
	if err := slow.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	slow.send(post("/sort", text))
	other := dial(t, addr)
	var got bytes.Buffer
	for range 20 {
		time.Sleep(5 * time.Millisecond)
		if _, err := io.CopyN(&got, slow.in, int64(len(sorted)/40)); err != nil {
			t.Fatal(err)
		}
		other.send(get("/"))
		if a := other.receive("GET"); a.body != greeting {
			t.Fatalf("the other client: %q", a.body)
		}
	}
	slow.in = bufio.NewReader(io.MultiReader(&got, slow.in))
	if a := slow.receive("POST"); a.body != sorted {
		t.Errorf("status %d, %d bytes; want %d", a.status, len(a.body), len(sorted))
	}
}

func manyClients(t *testing.T, addr string) {
	var all []*client
	for range 64 {
		all = append(all, dial(t, addr))
	}
	for range 3 {
		for i, c := range all {
			c.send(get(fmt.Sprintf("/todos/%d", 1+i%5)))
		}
		for i, c := range all {
			if got := c.receive("GET"); got.body != item(1+i%5) {
				t.Fatalf("client %d: %q", i, got.body)
			}
		}
	}
}

// Clients come and go, some in the middle of something. The service is as
// before.
func leaving(t *testing.T, addr string, n int) {
	text, _ := array(100)
	whole := post("/sort", text)
	for i := range n {
		c := dial(t, addr)
		c.send(whole[:i*len(whole)/n])
		if i%3 == 0 {
			_ = c.SetLinger(0) // a reset
		}
		c.Close()
	}
	c := dial(t, addr)
	c.send(get("/"))
	if got := c.receive("GET"); got.body != greeting {
		t.Errorf("afterwards: %d %q", got.status, got.body)
	}
}
