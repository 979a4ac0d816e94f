package image

import (
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// openOCI reads the container image in a folder as one archive: its layers, one
// over the other. OCI Image Layout Specification 1.0.
func openOCI(path string) (io.ReadCloser, error) {
	folder, err := layout.FromPath(path)
	if err != nil {
		return nil, fmt.Errorf("%s: not an OCI image layout: %w", path, err)
	}
	index, err := folder.ImageIndex()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	img, err := find(index)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return mutate.Extract(img), nil
}

// find finds the one image for this kind of machine.
func find(index v1.ImageIndex) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var found v1.Image
	for _, d := range manifest.Manifests {
		switch {
		case d.MediaType.IsIndex():
			nested, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			return find(nested)
		case !d.MediaType.IsImage() || d.Platform != nil && (d.Platform.OS != "linux" || d.Platform.Architecture != "amd64"):
		case found != nil:
			return nil, fmt.Errorf("it has several images; keep one")
		default:
			if found, err = index.Image(d.Digest); err != nil {
				return nil, err
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("it has no image for linux on amd64")
	}
	return found, nil
}
