package report

import (
	"os"
	"path/filepath"

	"vmm/bench/result"
)

// Write draws the report into a run's folder, and returns the path of its page.
func Write(dir string, r *result.Run) (string, error) {
	path := filepath.Join(dir, "report.txt")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return path, Table(f, r)
}
