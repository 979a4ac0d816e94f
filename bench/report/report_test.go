package report

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmm/bench/result"
)

// run is a run of a few runtimes, with numbers that are known.
func run() *result.Run {
	r := &result.Run{
		Version: result.Version, Started: time.Unix(1e9, 0).UTC(), Complete: true,
		Config:      result.Config{N: 3, Apps: []string{"rest-c", "rest-go"}, Parallel: []int{1, 10}, Seed: 1},
		Environment: result.Environment{CPU: "a processor", Host: result.Emulated, Mitigations: map[string]string{"meltdown": "Not <affected>"}},
	}
	base := map[string]float64{"process": 0.002, "crun": 0.02, "vm": 0.2, "vm-distro": 2, "unikernel": 0.03}
	kinds := map[string]string{"process": "process", "crun": "container", "vm": "virtual machine", "vm-distro": "virtual machine", "unikernel": "unikernel"}
	for _, name := range []string{"process", "crun", "vm", "vm-distro", "unikernel"} {
		s := result.Subject{Runtime: name, App: "rest-c", Version: "1", Kind: kinds[name], Files: []result.File{{Role: "kernel", Size: int64(1e9 * base[name]), OnDisk: int64(1e9 * base[name]), SHA256: "abc"}}}
		r.Subjects = append(r.Subjects, s)
		add := func(suite, metric string, x, v float64) {
			r.Samples = append(r.Samples, result.Sample{Trial: "t", Suite: suite, Runtime: name, App: "rest-c", Metric: metric, X: x, Value: v})
		}
		for i := range 3 {
			f := base[name] * (1 + float64(i)/10)
			add("start", "guest", 1, f/10)
			add("start", "init", 1, f*0.8)
			add("start", "http", 1, f)
			add("start", "http", 10, f*4)
			add("memory", "pss", 3, f*1e9)
			add("rest", "requests", 16, 100/f)
			add("rest", "client_cpu", 16, 0.5)
			add("rest", "latency_p99", 50, f/10)
			add("sort", "sort", 100, f/100)
			add("density", "http_beside", float64(i), f)
			add("density", "density_sum", float64(i+1), f*1e9)
		}
		add("memory", "minimum", 0, base[name]*1e9)
		add("isolation", "syscalls", 0, 30)
		add("isolation", "syscalls_open", 0, map[bool]float64{true: 0, false: 300}[strings.Contains(kinds[name], "machine")])
		add("isolation", "syscalls_escaped", 0, 40)
		add("isolation", "capabilities", 0, 3)
	}
	fact := func(runtime, name, value string) {
		r.Facts = append(r.Facts, result.Fact{Runtime: runtime, App: "rest-c", Name: name, Value: value})
	}
	fact("crun", "kernel", "the host's, Linux 6.1.0")
	fact("crun", "namespaces", "cgroup ipc mnt net pid uts")
	fact("vm", "kernel", "its own, Linux 6.12.1")
	r.Subjects = append(r.Subjects, result.Subject{Runtime: "docker", App: "rest-c", Kind: "container", Missing: "docker is not installed; Debian: apt-get install docker.io"})
	r.Failures = []result.Failure{{Trial: "start/vm/rest-c/1/2", Suite: "start", Runtime: "vm", App: "rest-c", Message: "it <crashed>"}}
	r.Summarize()
	return r
}

func TestClaimsAreJudgedByTheFigures(t *testing.T) {
	slow := run()
	fast := run()
	for i, s := range fast.Samples {
		if s.Runtime == "vm" && s.Metric == "http" {
			fast.Samples[i].Value = 0.001
		}
	}
	shared := run()
	shared.Subjects = append(shared.Subjects, result.Subject{Runtime: "vm-shared", App: "rest-c", Kind: "virtual machine"})
	shared.Samples = append(shared.Samples, result.Sample{Trial: "t", Suite: "memory", Runtime: "vm-shared", App: "rest-c", Metric: "pss", X: 3, Value: 100 << 20})
	tests := map[string]struct {
		run  *result.Run
		want Verdict
		says string
	}{
		"C5":  {slow, Supported, "vm, c answers after 220 ms, crun, c after 22.0 ms: 10 times"},
		"C5 ": {fast, Contradicted, "vm, c answers after 1 ms"},
		"V2":  {slow, Supported, "of the 220 ms"},
		"V3":  {slow, Supported, "one more instance of vm, c takes"},
		"V3 ": {shared, Mixed, "but of vm-shared, c, whose kernel's pages are shared, 100 MiB"},
		"U5":  {slow, Supported, "unikernel, c after 33 ms"},
		"C2":  {slow, Supported, "cgroup, ipc, mnt, net, pid, uts"},
		"C7":  {slow, Supported, "may make 300 system calls of the host, a guest 0"},
		"C6":  {slow, Unmeasured, ""}, // vm-distro's kernel is not known
		"U3":  {slow, Unmeasured, "not both"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, c := range Judge(tt.run) {
				if c.ID == strings.TrimSpace(name) && (c.Verdict != tt.want || !strings.Contains(c.Because, tt.says)) {
					t.Errorf("%s: %s, %q, want %s with %q", c.ID, c.Verdict, c.Because, tt.want, tt.says)
				}
			}
		})
	}
}

func TestClaimsAreThoseOfTheDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "claims.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Claims {
		if !strings.Contains(string(text), fmt.Sprintf("| %s | %s |", c.ID, c.Text)) {
			t.Errorf("docs/claims.md does not say: %s %s", c.ID, c.Text)
		}
	}
	if rows := strings.Count(string(text), "\n| "); rows != len(Claims)+1 {
		t.Errorf("docs/claims.md has %d claims, the program %d", rows-1, len(Claims))
	}
}

func TestTableSaysWhatIsMissingAndWhatFailed(t *testing.T) {
	var out bytes.Buffer
	if err := Table(&out, run()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"docker (rest-c): not measured: docker is not installed; Debian: apt-get install docker.io",
		"vm (rest-c): start: it <crashed>", "Emulated host: its processor is software.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestNothingMeasuredIsAReportToo(t *testing.T) {
	r := run()
	r.Samples, r.Facts = nil, nil
	r.Summarize()
	if _, err := Write(t.TempDir(), r); err != nil {
		t.Error(err)
	}
}

func TestCompare(t *testing.T) {
	before, after := run(), run()
	for i, s := range after.Samples {
		if s.Runtime == "vm" && s.Metric == "http" && s.X == 1 {
			after.Samples[i].Value = s.Value / 2
		}
	}
	after.Summarize()
	after.Environment.Kernel = "6.12"
	var out bytes.Buffer
	if err := Compare(&out, before, after); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`kernel: "" before, "6.12" after`, "-50.0%", "+0.0%"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

// The page is looked at by a browser: every figure is drawn, and it has nothing to
// complain of.
func TestPageInBrowser(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("VMM_REQUIRE_LAB") != "" {
			t.Fatal("chromium is not installed")
		}
		t.Skip("chromium is not installed")
	}
	dir := t.TempDir()
	path, err := Write(dir, run())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{"http://", "https://", "src=", "<script", "@import"} {
		if bytes.Contains(bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("http://www.w3.org/"), nil), []byte("https://gvisor"), nil), []byte(foreign)) {
			t.Errorf("the page has %q in it: it is to stand alone", foreign)
		}
	}
	look := func(flags ...string) (stdout, stderr string) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		args := append([]string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--user-data-dir=" + t.TempDir(), "--enable-logging=stderr", "--hide-scrollbars",
		}, flags...)
		cmd := exec.CommandContext(ctx, browser, append(args, "file://"+path)...)
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			t.Fatalf("chromium: %v: %s", err, said.String())
		}
		return out.String(), said.String()
	}

	figures, err := Figures(run())
	if err != nil {
		t.Fatal(err)
	}
	if len(figures) != 13 {
		t.Errorf("%d figures, want 13", len(figures))
	}
	dom, said := look("--dump-dom")
	if strings.Contains(said, ":CONSOLE") {
		t.Errorf("the browser's console: %s", said)
	}
	for _, f := range figures {
		_, part, ok := strings.Cut(dom, `<figure id="`+f.ID+`">`)
		part, _, _ = strings.Cut(part, "</figure>")
		if !ok || !strings.Contains(part, "<svg") || !strings.Contains(part, "<path") || !strings.Contains(part, "</text>") {
			t.Errorf("figure %s is not in the page, or nothing is drawn in it", f.ID)
		}
	}

	for name, flag := range map[string]string{"light": "--blink-settings=preferredColorScheme=1", "dark": "--blink-settings=preferredColorScheme=0"} {
		shot := filepath.Join(dir, name+".png")
		look("--window-size=1000,9000", "--screenshot="+shot, flag)
		f, err := os.Open(shot)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		img, err := png.Decode(f)
		if err != nil {
			t.Fatal(err)
		}
		// The colours of the bars and lines are to be seen, each.
		seen := colours(img)
		for i := range 5 {
			c := palette[i]
			if n := seen[[3]uint8{c.R, c.G, c.B}]; n < 1000 {
				t.Errorf("%s: %d pixels have the colour of runtime %d, want its bars", name, n, i)
			}
		}
		ground := map[string][3]uint8{"light": {255, 255, 255}, "dark": {0x14, 0x17, 0x1c}}[name]
		if seen[ground] < 1_000_000 {
			t.Errorf("%s: the ground is not %v", name, ground)
		}
	}
}

// colours counts the pixels of each colour. Neighbours mostly have the same, and
// there are millions of them.
func colours(img image.Image) map[[3]uint8]int {
	pixels := image.NewRGBA(img.Bounds())
	draw.Draw(pixels, pixels.Rect, img, img.Bounds().Min, draw.Src)
	seen := map[[3]uint8]int{}
	var last [4]byte
	n := 0
	for p := pixels.Pix; len(p) > 0; p = p[4:] {
		if next := [4]byte(p); next != last {
			seen[[3]uint8(last[:3])] += n
			last, n = next, 0
		}
		n++
	}
	seen[[3]uint8(last[:3])] += n
	return seen
}

// What containers print, and what images and processors are called, is text in every
// form of the report, and nothing that is obeyed.
func TestReportEscapes(t *testing.T) {
	evil := "<script>alert(1)</script><img src=x onerror=alert(1)> [link](javascript:alert) ![i](x) | `code` \x1b[31m\nvmm: x http://evil.example"
	r := run()
	r.Environment.CPU, r.Environment.Machine, r.Environment.Mitigations = evil, evil, map[string]string{evil: evil}
	r.Config.Apps = []string{evil}
	for i := range r.Subjects {
		r.Subjects[i].App, r.Subjects[i].Version, r.Subjects[i].Confined = evil, evil, evil
	}
	r.Subjects[len(r.Subjects)-1].Missing = evil
	for i := range r.Samples {
		r.Samples[i].App = evil
	}
	for i := range r.Facts {
		r.Facts[i].App, r.Facts[i].Value = evil, evil
	}
	r.Failures[0].App, r.Failures[0].Message = evil, evil
	r.Summarize()
	dir := t.TempDir()
	if _, err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	figures, err := filepath.Glob(filepath.Join(dir, FiguresDir, "*.svg"))
	if err != nil || len(figures) == 0 {
		t.Fatalf("figures: %v, %v", figures, err)
	}
	for _, path := range append(figures, filepath.Join(dir, HTMLFile), filepath.Join(dir, MarkdownFile)) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) == MarkdownFile { // its own figures
			text = regexp.MustCompile(`(?m)^!\[[^\]<]*\]\(figures/[a-z]+\.svg\)$`).ReplaceAll(text, nil)
		}
		for _, bad := range []string{"<script", "<img", "\x1b", "\nvmm: x"} {
			if bytes.Contains(text, []byte(bad)) {
				at := bytes.Index(text, []byte(bad))
				t.Errorf("%s: %q", filepath.Base(path), text[max(0, at-60):min(len(text), at+60)])
			}
		}
		if filepath.Base(path) == MarkdownFile && regexp.MustCompile(`[^\\][\[\]]|://evil`).Match(text) {
			t.Errorf("a link: %q", regexp.MustCompile(`.*([^\\][\[\]]|://evil).*`).Find(text))
		}
	}
}
