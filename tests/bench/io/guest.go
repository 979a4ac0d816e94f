package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// limit is how long a guest may take.
const limit = 5 * time.Minute

// measure starts a guest and collects what it found.
func measure(c config, monitor string) (found []sample, err error) {
	cmd := c.command(monitor)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	jobs := strings.Count(c.jobs, ",") + 1
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	ended := false
	var console strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		fmt.Fprintln(&console, line)
		words := strings.Fields(line)
		switch {
		case line == "io: end":
			ended = true
		case line == "io: idle begins":
			idle, err := watchIdle(cmd.Process.Pid)
			if err != nil {
				return found, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
			}
			found = append(found, idle...)
		case len(words) == 3 && words[0] == "io:":
			value, err := strconv.ParseFloat(words[2], 64)
			if err == nil {
				found = append(found, sample{job: words[1], value: value})
			}
		}
	}
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return found, err
	}
	if !ended {
		return found, fmt.Errorf("it did not end; standard error: %s\nconsole: %s", &stderr, &console)
	}
	if len(found) < jobs {
		return found, fmt.Errorf("%d figures of %d jobs; console: %s", len(found), jobs, &console)
	}
	log.Printf("%s: %d figures in %v", monitor, len(found), time.Since(start).Round(time.Second))
	return found, nil
}
