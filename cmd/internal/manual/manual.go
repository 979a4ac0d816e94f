// Package manual makes the manual pages and the shells' completions of a program out
// of its commands. It is imported by tests alone: what it needs is no part of the
// programs.
package manual

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Folder is where the release wants the pages: the variable VMM_MANUAL. Without it,
// none is wanted.
func Folder() string { return os.Getenv("VMM_MANUAL") }

// Pages writes a page for each command below root, section 1, into a folder.
func Pages(root *cobra.Command, dir string) error {
	date, err := sourceDate()
	if err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Date: &date, Source: "vmm", Manual: "vmm"}, dir)
}

// sourceDate is the time that the environment gives a release, so that two builds of
// it are alike: https://reproducible-builds.org/specs/source-date-epoch/.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// Completions writes completions for bash, zsh and fish into a folder.
func Completions(root *cobra.Command, dir string) error {
	write := func(name string, generate func(io.Writer) error) error {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		return errors.Join(generate(f), f.Close())
	}
	return errors.Join(
		write("vmm.bash", func(w io.Writer) error { return root.GenBashCompletionV2(w, true) }),
		write("_vmm", root.GenZshCompletion),
		write("vmm.fish", func(w io.Writer) error { return root.GenFishCompletion(w, true) }),
	)
}
