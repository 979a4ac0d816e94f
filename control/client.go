package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"vmm/untrusted"
)

// ErrEnded says that the machine at the other end of a connection is gone.
var ErrEnded = errors.New("the machine has ended")

// maxAnswer is how long an answer may be, in bytes. The longest, a kernel's symbols,
// have some ten million.
const maxAnswer = 64 << 20

// maxStatus is how many values a Status may have, and maxError how many bytes a
// message.
const (
	maxStatus = 1000
	maxError  = 4096
)

// Client is a connection to a machine. Its methods may be called concurrently:
// requests are carried out one after the other.
type Client struct {
	mu      sync.Mutex
	conn    net.Conn
	limit   *io.LimitedReader
	answers *json.Decoder
}

// NewClient returns a client on a connection, which it takes over.
func NewClient(c net.Conn) *Client {
	limit := &io.LimitedReader{R: c}
	return &Client{conn: c, limit: limit, answers: json.NewDecoder(bufio.NewReader(limit))}
}

// Dial connects to the machine at a path.
func Dial(path string) (*Client, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("no machine at %s: %w", path, errors.Unwrap(errors.Unwrap(err)))
	}
	return NewClient(c), nil
}

// Close ends the connection, and with it a Call that is under way.
func (c *Client) Close() error { return c.conn.Close() }

// Call sends a request and returns the answer. An answer with an Error is an
// error; one that wraps ErrEnded means that there will be no more.
func (c *Client) Call(r Request) (Response, error) { return c.CallWith(r, nil) }

// CallWith is Call with files that go with the request, and stay the caller's.
func (c *Client) CallWith(r Request, files []*os.File) (Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, err := json.Marshal(r)
	if err != nil {
		return Response{}, err
	}
	// A server that does not take a request has said why, and that can be read.
	_ = send(c.conn, append(text, '\n'), files)
	c.limit.N = maxAnswer
	var parts struct {
		Error          string
		Status, Result json.RawMessage
	}
	if err := c.answers.Decode(&parts); err != nil {
		return Response{}, fmt.Errorf("%w: %w", ErrEnded, err)
	}
	answer := Response{Error: parts.Error, Result: parts.Result}
	if answer.Error != "" {
		return answer, errors.New(untrusted.Text(answer.Error[:min(len(answer.Error), maxError)]))
	}
	if parts.Status != nil {
		if err := untrusted.Unmarshal(parts.Status, maxStatus, &answer.Status); err != nil {
			return Response{}, fmt.Errorf("the machine's status: %w", err)
		}
	}
	return answer, nil
}

// AwaitEnd returns when the machine has ended.
func (c *Client) AwaitEnd() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit.N = maxAnswer
	_, _ = io.Copy(io.Discard, c.limit) // an end is all that is left to be read
}

// Call sends one request to the machine at a path and returns the answer. An
// answer with an Error is an error.
func Call(path string, r Request) (Response, error) {
	c, err := Dial(path)
	if err != nil {
		return Response{}, err
	}
	defer c.Close()
	answer, err := c.Call(r)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return answer, err
}
