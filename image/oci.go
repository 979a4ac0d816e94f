package image

import (
	"fmt"
	"io"
	"os"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// openOCI reads the container image in a folder as one archive: its layers, one
// over the other.
func openOCI(path string) (io.ReadCloser, error) {
	img, err := openLayout(path)
	if err != nil {
		return nil, err
	}
	return mutate.Extract(img), nil
}

// Container is a container image: its files, and how its program is started.
type Container struct {
	// Files is an archive of all files.
	Files io.ReadCloser
	// Command is the program and its arguments, Env its environment, Dir its
	// working directory.
	Command, Env []string
	Dir          string
}

// OpenContainer opens a container image: the folder of an OCI layout, or an archive
// as 'docker save' makes it.
func OpenContainer(path string) (*Container, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var img v1.Image
	if info.IsDir() {
		img, err = openLayout(path)
	} else if img, err = tarball.ImageFromPath(path, nil); err != nil {
		err = fmt.Errorf("%s: neither the folder of an OCI layout nor an archive of 'docker save' with one image: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("%s: configuration: %w", path, err)
	}
	c := config.Config
	return &Container{Files: mutate.Extract(img), Command: append(slices.Clone(c.Entrypoint), c.Cmd...), Env: c.Env, Dir: c.WorkingDir}, nil
}

// openLayout opens the image in a folder. OCI Image Layout Specification 1.0.
func openLayout(path string) (v1.Image, error) {
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
	return img, nil
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
