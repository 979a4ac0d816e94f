package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// The limits of an image in a registry, far above those that are made.
const (
	maxPulled   = 64 << 30 // its layers together, in bytes, compressed
	maxConfig   = 4 << 20
	maxManifest = 4 << 20
	maxLayers   = 500
)

// pulled is the folder of an OCI layout with an image of a registry, which is pulled
// unless it is there. What the registry sends is checked against the digests that
// lead to it.
func (c *Cache) pulled(ctx context.Context, reference string, say func(string)) (string, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return "", fmt.Errorf("it is neither a file or folder here, nor a name in a registry: %w", err)
	}
	sum := sha256.Sum256([]byte(ref.Name()))
	path := filepath.Join(c.dir, hex.EncodeToString(sum[:])+".oci")
	if _, err := os.Lstat(path); err == nil {
		return path, nil
	}
	lock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	defer os.Remove(path + ".lock") // whoever waits for it finds the image
	if _, err := os.Lstat(path); err == nil {
		return path, nil
	}
	work := path + ".new"
	if err := os.RemoveAll(work); err != nil { // of one that was killed
		return "", err
	}
	err = pull(ctx, ref, work, say)
	if err == nil {
		err = os.Rename(work, path)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("pull it: %w", err), os.RemoveAll(work))
	}
	return path, nil
}

// pull pulls an image into a new folder.
func pull(ctx context.Context, ref name.Reference, to string, say func(string)) error {
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}), remote.WithTransport(bounded{remote.DefaultTransport}))
	if err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	var size int64
	for _, l := range manifest.Layers {
		if l.Size < 0 || l.Size > maxPulled-size {
			return fmt.Errorf("its layers are larger than %d GiB, more than are taken", maxPulled>>30)
		}
		if len(l.URLs) > 0 { // of servers that the image chooses
			return errors.New("a layer of it lies elsewhere than in the registry")
		}
		size += l.Size
	}
	if n := len(manifest.Layers); n > maxLayers {
		return fmt.Errorf("it has %d layers; at most %d are taken", n, maxLayers)
	}
	if n := manifest.Config.Size; n > maxConfig {
		return fmt.Errorf("its configuration has %d bytes; at most %d are taken", n, maxConfig)
	}
	say(fmt.Sprintf("pulling %s, %.1f MiB", ref.Name(), float64(size)/(1<<20)))
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	l, err := layout.Write(to, empty.Index)
	if err != nil {
		return err
	}
	return l.AppendImage(img)
}

// bounded is a transport on which a registry's answers, but for blobs, end: those are
// bounded by their sizes in the manifest.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil && !strings.Contains(r.URL.Path, "/blobs/") {
		answer.Body = limited{io.LimitReader(answer.Body, maxManifest), answer.Body}
	}
	return answer, err
}

type limited struct {
	io.Reader
	io.Closer
}

// exists tells whether a name is one of a file or folder here.
func exists(name string) bool {
	_, err := os.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// looksLocal tells whether a name is meant as a path, whether there is something or
// not.
func looksLocal(name string) bool {
	return strings.HasPrefix(name, "/") || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".tar")
}
