package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"

	"vmm/image/tree"
	"vmm/untrusted"
)

// The limits of a container image, far above those that are made. What is beyond
// them is refused before it takes memory.
const (
	maxLayers  = 500
	maxIndexes = 100 // in each other, or beside
	maxNesting = 4
)

// documents are the limits of an index, a manifest and a configuration: registries
// take 4 MiB.
var documents = untrusted.Limits{Bytes: 4 << 20, Values: 100_000}

// Container is a container image: its files, and how its program is started.
type Container struct {
	// Command is the program and its arguments, Env its environment (each with a
	// name and an equals sign), Dir its working directory.
	Command, Env []string
	Dir          string
	// Entrypoint and Default are the parts of Command: a user's arguments take the
	// place of the second.
	Entrypoint, Default []string
	// StopSignal is what asks the program to end, by name or number; "" for SIGTERM.
	StopSignal string
	// User is whose process it is, as the image says: name or number, and perhaps
	// a colon and a group.
	User string

	store  store
	layers []layer
}

// layer is a layer of an image: the blob, and the digest of what is in it.
type layer struct {
	blob string // where it is in the store
	descriptor
	diffID string // SHA-256 of the archive in it, decompressed
}

// descriptor says what a blob is. OCI Image Format Specification 1.0, Content
// Descriptors.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	Platform  *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

// config is an image's configuration.
type config struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Config       struct {
		Entrypoint, Cmd, Env []string
		WorkingDir, User     string
		StopSignal           string
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// index is an index or a manifest: which of them, its media type says.
type index struct {
	Manifests []descriptor `json:"manifests"`
	Config    descriptor   `json:"config"`
	Layers    []descriptor `json:"layers"`
}

// OpenContainer opens a container image: the folder of an OCI layout, or an archive
// as 'docker save' makes it. What it says of itself is read and checked; the layers
// are as they are unpacked.
func OpenContainer(name string) (*Container, error) {
	s, err := openStore(name)
	if err != nil {
		return nil, fmt.Errorf("%s: neither the folder of an OCI layout nor an archive of 'docker save': %w", name, err)
	}
	c := &Container{store: s}
	if s.has("oci-layout") || !s.has("manifest.json") {
		err = c.openLayout()
	} else {
		err = c.openDocker()
	}
	if err == nil && len(c.layers) == 0 {
		err = errors.New("it has no layers, and so no files")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), s.Close())
	}
	return c, nil
}

// ID tells the image's files from those of others: it is made of the digests of its
// layers, which Unpack checks.
func (c *Container) ID() string {
	h := sha256.New()
	for _, l := range c.layers {
		_, _ = io.WriteString(h, l.diffID+"\n")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Close closes the image's files.
func (c *Container) Close() error { return c.store.Close() }

// openLayout opens an OCI layout. OCI Image Layout Specification 1.0.
func (c *Container) openLayout() error {
	var top index
	if err := c.document("index.json", nil, &top); err != nil {
		return fmt.Errorf("not an OCI image layout: %w", err)
	}
	f := finder{c: c}
	if err := f.look(top, 0); err != nil {
		return err
	}
	switch {
	case len(f.found) == 0:
		return errors.New("it has no image for linux on amd64")
	case len(f.found) > 1:
		return errors.New("it has several images; keep one")
	}
	var m index
	if err := c.blob(f.found[0], &m); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	var conf config
	if err := c.blob(m.Config, &conf); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	var layers []layer
	for _, d := range m.Layers {
		at, err := blobPath(d.Digest)
		if err != nil {
			return err
		}
		layers = append(layers, layer{blob: at, descriptor: d})
	}
	return c.take(conf, layers)
}

// openDocker opens an archive of Docker's own form. Docker Image Specification 1.2,
// Combined Image JSON and Filesystem Changeset Format.
func (c *Container) openDocker() error {
	var all []struct {
		Config string
		Layers []string
	}
	if err := c.document("manifest.json", nil, &all); err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("it has %d images; keep one", len(all))
	}
	var conf config
	if err := c.document(all[0].Config, nil, &conf); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	var layers []layer
	for _, name := range all[0].Layers {
		layers = append(layers, layer{blob: name})
	}
	return c.take(conf, layers)
}

// take takes over what the configuration says, of the layers too.
func (c *Container) take(conf config, layers []layer) error {
	if conf.OS != "" && conf.OS != "linux" || conf.Architecture != "" && conf.Architecture != "amd64" {
		return fmt.Errorf("it is for %s on %s, not for linux on amd64", conf.OS, conf.Architecture)
	}
	if n := len(layers); n > maxLayers {
		return fmt.Errorf("it has %d layers; at most %d are taken", n, maxLayers)
	}
	if len(conf.RootFS.DiffIDs) != len(layers) {
		return fmt.Errorf("its configuration tells of %d layers, and it has %d", len(conf.RootFS.DiffIDs), len(layers))
	}
	for i := range layers {
		layers[i].diffID = conf.RootFS.DiffIDs[i]
		if _, err := blobPath(layers[i].diffID); err != nil {
			return err
		}
	}
	c.layers = layers
	c.Entrypoint, c.Default, c.StopSignal = conf.Config.Entrypoint, conf.Config.Cmd, conf.Config.StopSignal
	c.Command = append(slices.Clone(c.Entrypoint), c.Default...)
	// A name alone would be for its engine to fill in, from the environment here.
	c.Env = slices.DeleteFunc(conf.Config.Env, func(e string) bool { return strings.Index(e, "=") < 1 })
	c.Dir, c.User = conf.Config.WorkingDir, conf.Config.User
	for _, word := range append(append([]string{c.Dir, c.User, c.StopSignal}, c.Command...), c.Env...) {
		if strings.ContainsRune(word, 0) {
			return fmt.Errorf("its configuration has a zero byte in %.80q", word)
		}
	}
	return nil
}

// finder looks for the images for this kind of machine.
type finder struct {
	c       *Container
	found   []descriptor
	indexes int
}

func (f *finder) look(in index, depth int) error {
	for _, d := range in.Manifests {
		switch {
		case strings.HasSuffix(d.MediaType, "image.index.v1+json") || strings.HasSuffix(d.MediaType, "manifest.list.v2+json"):
			if f.indexes++; f.indexes > maxIndexes || depth == maxNesting {
				return fmt.Errorf("more than %d indexes, or more than %d in each other", maxIndexes, maxNesting)
			}
			var nested index
			if err := f.c.blob(d, &nested); err != nil {
				return fmt.Errorf("index: %w", err)
			}
			if err := f.look(nested, depth+1); err != nil {
				return err
			}
		case !strings.HasSuffix(d.MediaType, "manifest.v1+json") && !strings.HasSuffix(d.MediaType, "distribution.manifest.v2+json"):
		case d.Platform != nil && (d.Platform.OS != "linux" || d.Platform.Architecture != "amd64"):
		case !slices.ContainsFunc(f.found, func(o descriptor) bool { return o.Digest == d.Digest }):
			f.found = append(f.found, d)
		}
	}
	return nil
}

// blobPath is where a layout keeps a blob. SHA-256 is the one digest that all
// implementations have, and the one that images have.
func blobPath(digest string) (string, error) {
	sum, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(sum) != 2*sha256.Size || strings.Trim(sum, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%.80q is no SHA-256 digest", digest)
	}
	return path.Join("blobs", "sha256", sum), nil
}

// blob decodes a document that a descriptor describes.
func (c *Container) blob(d descriptor, v any) error {
	name, err := blobPath(d.Digest)
	if err != nil {
		return err
	}
	return c.document(name, &d, v)
}

// document decodes a document of the image, which has to be as described, if it is.
func (c *Container) document(name string, d *descriptor, v any) error {
	f, size, err := c.store.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = f
	if d != nil {
		if r, err = verified(f, size, *d); err != nil {
			return err
		}
	}
	return untrusted.JSON(r, documents, v)
}

// verified reads a blob; its end is an error when it is not as described.
func verified(r io.Reader, size int64, d descriptor) (io.Reader, error) {
	if size != d.Size {
		return nil, fmt.Errorf("%s has %d bytes, and is said to have %d", d.Digest, size, d.Size)
	}
	return &verifier{r: r, hash: sha256.New(), want: d.Digest}, nil
}

// verifier reads what has to have a digest.
type verifier struct {
	r    io.Reader
	hash hash.Hash
	want string
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF {
		if got := "sha256:" + hex.EncodeToString(v.hash.Sum(nil)); got != v.want {
			err = fmt.Errorf("its contents are not those of %s: they have the digest %s", v.want, got)
		}
	}
	return n, err
}

// Unpack unpacks the image into a tree, layer over layer, and checks the layers.
// Stop is asked between pieces whether to go on.
func (c *Container) Unpack(t *tree.Tree, stop func() error) error {
	for i, l := range c.layers {
		if err := c.unpackLayer(t, l, stop); err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(c.layers), err)
		}
	}
	return nil
}

func (c *Container) unpackLayer(t *tree.Tree, l layer, stop func() error) error {
	f, size, err := c.store.open(l.blob)
	if err != nil {
		return err
	}
	defer f.Close()
	var blob io.Reader = stopper{f, stop}
	if l.Digest != "" {
		if blob, err = verified(blob, size, l.descriptor); err != nil {
			return err
		}
	}
	archive, err := decompress(blob)
	if err != nil {
		return err
	}
	if err := t.Unpack(&verifier{r: archive, hash: sha256.New(), want: l.diffID}, tree.Archive{Layer: true}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, blob) // what is behind the compressed archive counts too
	return err
}

// stopper is a reader that ends when it is told to.
type stopper struct {
	r    io.Reader
	stop func() error
}

func (s stopper) Read(p []byte) (int, error) {
	if err := s.stop(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
