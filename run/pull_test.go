package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// serveRegistry serves a registry on the loopback with an image, whose answers lie
// changes; nil for none.
func serveRegistry(t *testing.T, lie func(http.Handler) http.Handler) (reference string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	honest := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	var handler http.Handler = honest
	changed := &atomic.Bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if lie != nil && changed.Load() {
			lie(handler).ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	reference = strings.TrimPrefix(server.URL, "http://") + "/my/image:1"
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	changed.Store(true)
	requests.Store(0)
	return reference, requests
}

// An image is pulled once.
func TestPull(t *testing.T) {
	reference, requests := serveRegistry(t, nil)
	c, err := OpenCache(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for range 2 {
		path, err := c.pulled(context.Background(), reference, func(s string) { said += s })
		if err != nil {
			t.Fatal(err)
		}
		if !isLayout(path) {
			t.Errorf("%s is no layout", path)
		}
	}
	if n := requests.Load(); n == 0 || n > 20 {
		t.Errorf("%d requests", n)
	}
	before := requests.Load()
	if _, err := c.pulled(context.Background(), reference, nil); err != nil || requests.Load() != before {
		t.Errorf("pulled again: %v", err)
	}
	if strings.Count(said, "pulling") != 1 {
		t.Errorf("said %q", said)
	}
}

// A registry that lies is not believed, and leaves nothing.
func TestLyingRegistry(t *testing.T) {
	instead := func(where string, body io.Reader) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && strings.Contains(r.URL.Path, where) {
					_, _ = io.CopyN(w, body, 32<<20) // would go on
					return
				}
				h.ServeHTTP(w, r)
			})
		}
	}
	for what, lie := range map[string]func(http.Handler) http.Handler{
		"other blobs":         instead("/blobs/", strings.NewReader("not what it should be")),
		"endless blobs":       instead("/blobs/", zeros{}),
		"an endless manifest": instead("/manifests/", zeros{}),
		"no manifest":         instead("/manifests/", strings.NewReader("{")),
		"a large one": instead("/manifests/", strings.NewReader(fmt.Sprintf(
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"size":2,"digest":"sha256:%064d"},"layers":[{"size":%d,"digest":"sha256:%064d"}]}`, 1, int64(1)<<60, 2))),
	} {
		t.Run(what, func(t *testing.T) {
			reference, _ := serveRegistry(t, lie)
			dir := filepath.Join(t.TempDir(), "cache")
			c, err := OpenCache(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.pulled(context.Background(), reference, func(string) {}); err == nil {
				t.Error("it is taken")
			} else {
				t.Log(err)
			}
			if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{'0'}, len(p)))
	return len(p), nil
}

func TestWrongReferences(t *testing.T) {
	c, err := OpenCache(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Not A Name": "nor a name in a registry", "./nowhere": "no such file or folder", "nowhere.tar": "no such file or folder",
	} {
		if _, err := c.open(context.Background(), name, func(string) {}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
