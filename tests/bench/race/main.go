// Command race times virtual machine monitors beside each other: from before
// fork and exec to a byte that the guest's init writes to its serial port, and to
// the end of the process. It runs in the lab, where "run" beside it puts it, with
// time counted in instructions.
//
//	race CASES OUT
//
// CASES has a line for each contestant, tab-separated: its name and its command
// line. They take turns. OUT is the folder for the results.
//
// Three kinds of rounds are told apart, for what is looked at costs time. In the
// timed rounds nothing is. In the traced ones, KVM's tracepoints say when the
// guest was entered first, and when its kernel first was seen at the kernel's own
// addresses. In the held ones, init waits, and the memory of the monitor is
// counted.
package main

import (
	"encoding/csv"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// contestant is a line of CASES.
type contestant struct {
	name    string
	command []string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("race: ")
	rounds := flag.Int("rounds", 5, "timed `rounds`")
	traced := flag.Int("traced", 3, "traced `rounds`")
	held := flag.Int("held", 1, "`rounds` in which memory is counted")
	memory := flag.Int("memory", 128, "guest RAM in `MiB`, as the command lines have it")
	limit := flag.Duration("limit", time.Minute, "`time` after which a contestant is ended")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: race [FLAGS] CASES OUT")
	}
	all, err := contestants(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	var runs []run
	for _, round := range slices.Concat(
		slices.Repeat([]kind{warm}, 1), slices.Repeat([]kind{timed}, *rounds),
		slices.Repeat([]kind{traceKVM}, *traced), slices.Repeat([]kind{hold}, *held)) {
		for _, c := range all {
			r, err := c.run(round, *memory<<10, *limit)
			if err != nil {
				log.Printf("%s: %v", c.name, err)
			}
			log.Printf("%s, %s: init after %.2f ms, exit after %.2f", r.kind, c.name, ms(r.init), ms(r.exit))
			if round != warm {
				runs = append(runs, r)
			}
		}
		if err := save(flag.Arg(1), all, runs); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Print(table(all, runs))
}

func contestants(path string) ([]contestant, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []contestant
	for line := range strings.Lines(string(text)) {
		words := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(words) < 2 {
			return nil, fmt.Errorf("%s: a name and a command expected: %q", path, line)
		}
		all = append(all, contestant{words[0], words[1:]})
	}
	return all, nil
}

// columns are what a run measures; those of time in milliseconds.
var columns = []struct {
	name  string
	kind  kind
	value func(run) float64
}{
	{"first instruction", traceKVM, func(r run) float64 { return ms(r.entered) }},
	{"kernel", traceKVM, func(r run) float64 { return ms(r.kernel) }},
	{"init", timed, func(r run) float64 { return ms(r.init) }},
	{"exit", timed, func(r run) float64 { return ms(r.exit) }},
	{"CPU time", timed, func(r run) float64 { return ms(r.cpu) }},
	{"memory, KiB", hold, func(r run) float64 { return float64(r.beside) }},
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// save writes what there is so far: boot.csv has the runs, boot.md the table.
func save(dir string, all []contestant, runs []run) error {
	if err := os.WriteFile(filepath.Join(dir, "boot.md"), []byte(table(all, runs)), 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "boot.csv"))
	if err != nil {
		return err
	}
	defer f.Close()
	w := csv.NewWriter(f)
	header := []string{"contestant", "kind"}
	for _, c := range columns {
		header = append(header, strings.ReplaceAll(strings.ReplaceAll(c.name, ",", ""), " ", "_"))
	}
	rows := [][]string{header}
	for _, r := range runs {
		row := []string{r.name, r.kind.String()}
		for _, c := range columns {
			cell := ""
			if v := c.value(r); c.kind == r.kind && v > 0 {
				cell = strconv.FormatFloat(v, 'f', 3, 64)
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return w.WriteAll(rows)
}

// table is the results as Markdown: median, minimum and maximum of each column,
// and the median's ratio to that of the first contestant.
func table(all []contestant, runs []run) string {
	var text strings.Builder
	text.WriteString("| |")
	for _, c := range columns {
		fmt.Fprintf(&text, " %s |", c.name)
	}
	text.WriteString("\n|---" + strings.Repeat("|---", len(columns)) + "|\n")
	first := make(map[string]float64)
	for _, who := range all {
		fmt.Fprintf(&text, "| %s |", who.name)
		for _, c := range columns {
			var values []float64
			for _, r := range runs {
				if v := c.value(r); r.name == who.name && r.kind == c.kind && v > 0 {
					values = append(values, v)
				}
			}
			if len(values) == 0 {
				text.WriteString(" - |")
				continue
			}
			slices.Sort(values)
			median := values[len(values)/2]
			if who.name == all[0].name {
				first[c.name] = median
			}
			format := " %.2f (%.2f to %.2f) |"
			if c.kind == hold {
				format = " %.0f (%.0f to %.0f) |"
			}
			cell := fmt.Sprintf(format, median, values[0], values[len(values)-1])
			if base := first[c.name]; base > 0 {
				cell = strings.TrimSuffix(cell, "|") + fmt.Sprintf("x%.2f |", median/base)
			}
			text.WriteString(cell)
		}
		text.WriteString("\n")
	}
	return text.String()
}
