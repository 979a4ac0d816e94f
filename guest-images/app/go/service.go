package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// Bounds on what a client may send.
const (
	maxHead     = 8192
	maxBody     = 256 << 10 // bytes
	maxIntegers = 16384     // of an array
)

type service struct {
	Service string `json:"service"`
}

type todo struct {
	ID    int    `json:"id"`
	Title string `json:"title"`
	Done  bool   `json:"done"`
}

type failure struct {
	Error string `json:"error"`
}

var todos = []todo{
	{1, "Read the paper", true},
	{2, "Start a container", true},
	{3, "Start a virtual machine", false},
	{4, "Start a unikernel", false},
	{5, "Compare them", false},
}

// serve answers a request.
func serve(w http.ResponseWriter, r *http.Request) {
	// As it was sent: the paths of this service need no escapes.
	path := r.URL.EscapedPath()
	if path == "/sort" {
		sort(w, r)
		return
	}
	answer, ok := find(path)
	switch {
	case !ok:
		reply(w, http.StatusNotFound, failure{"not found"})
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		reply(w, http.StatusMethodNotAllowed, failure{"method not allowed"})
	default:
		reply(w, http.StatusOK, answer)
	}
}

// find finds what a path leads to.
func find(path string) (any, bool) {
	switch path {
	case "", "/":
		return service{"todos"}, true
	case "/todos":
		return todos, true
	}
	for _, t := range todos {
		if path == "/todos/"+strconv.Itoa(t.ID) {
			return t, true
		}
	}
	return nil, false
}

// sort answers with the array of the request, sorted.
func sort(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		reply(w, http.StatusMethodNotAllowed, failure{"method not allowed"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			reply(w, http.StatusRequestEntityTooLarge, failure{"content too large"})
		} else {
			w.Header().Set("Connection", "close")
			reply(w, http.StatusBadRequest, failure{"bad request"})
		}
		return
	}
	var numbers []int64
	// Package json takes null for a number, and for an array: there is no
	// other n in an array of integers.
	if err := json.Unmarshal(body, &numbers); err != nil || bytes.ContainsRune(body, 'n') {
		reply(w, http.StatusBadRequest, failure{"bad request"})
		return
	}
	if len(numbers) > maxIntegers {
		reply(w, http.StatusRequestEntityTooLarge, failure{"content too large"})
		return
	}
	bubbleSort(numbers)
	reply(w, http.StatusOK, numbers)
}

// bubbleSort is the heavy task: n(n-1)/2 comparisons.
func bubbleSort(v []int64) {
	for end := len(v); end > 1; end-- {
		for i := 1; i < end; i++ {
			if v[i-1] > v[i] {
				v[i-1], v[i] = v[i], v[i-1]
			}
		}
	}
}

// reply sends an answer as JSON. That the client is gone is no news to it.
func reply(w http.ResponseWriter, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	body = append(body, '\n')
	h := w.Header()
	h["Date"] = nil // as in the answers of a machine without a clock
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
