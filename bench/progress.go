package bench

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"vmm/untrusted"
)

// stderr is standard error for what instances say too.
func stderr() io.Writer { return untrusted.Writer(os.Stderr) }

// progress shows how far a run is and how long it will take: as a bar on a
// terminal, as a line now and then elsewhere.
type progress struct {
	bar         *progressbar.ProgressBar // nil without a terminal
	total, done float64
	begun, last time.Time
}

// scale turns weights into the whole numbers that the bar counts.
const scale = 1000

// every is how often there is a line without a terminal.
const every = 30 * time.Second

func newProgress(total float64) *progress {
	p := &progress{total: total, begun: time.Now(), last: time.Now()}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		p.bar = progressbar.NewOptions(int(total*scale), progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetWidth(20), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetElapsedTime(true))
	}
	return p
}

// begin tells that a trial begins.
func (p *progress) begin(id string) {
	switch {
	case p.bar != nil:
		p.bar.Describe(fmt.Sprintf("%-40.40s", untrusted.Text(id)))
	case time.Since(p.last) > every:
		p.last = time.Now()
		left := "?"
		if p.done > 0 {
			left = time.Duration(float64(time.Since(p.begun)) * (p.total - p.done) / p.done).Round(time.Second).String()
		}
		fmt.Fprintf(stderr(), "vmm: %3.0f%%, %s to go: %s\n", 100*p.done/p.total, left, id)
	}
}

// end tells that a trial is done.
func (p *progress) end(weight float64) {
	p.done += weight
	if p.bar != nil {
		_ = p.bar.Add(int(weight * scale))
	}
}

// say writes a line above the bar.
func (p *progress) say(line string) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintln(stderr(), line)
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
