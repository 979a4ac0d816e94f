package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vmm/bench/result"
	"vmm/untrusted"
)

//go:embed report.html.tmpl
var page string

// The files of a report, and the folder of its figures.
const (
	HTMLFile     = "report.html"
	MarkdownFile = "report.md"
	FiguresDir   = "figures"
)

// Write draws the report into a run's folder, and returns the path of its page.
func Write(dir string, r *result.Run) (string, error) {
	untrusted.Clean(r)
	figures, err := Figures(r)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, FiguresDir), 0o755); err != nil {
		return "", err
	}
	for _, f := range figures {
		svg, err := f.SVG()
		if err != nil {
			return "", err
		}
		png, err := f.PNG()
		if err != nil {
			return "", err
		}
		base := filepath.Join(dir, FiguresDir, f.ID)
		if err := errors.Join(os.WriteFile(base+".svg", []byte(svg), 0o644), os.WriteFile(base+".png", png, 0o644)); err != nil {
			return "", err
		}
	}
	html, err := HTML(r, figures)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, HTMLFile)
	return path, errors.Join(os.WriteFile(path, html, 0o644), os.WriteFile(filepath.Join(dir, MarkdownFile), Markdown(r, figures), 0o644))
}

// title says when and on what a run was.
func title(r *result.Run) string {
	return fmt.Sprintf("%s, %s, n = %d", r.Started.Format("2006-01-02 15:04 MST"), r.Environment.CPU, r.Config.N)
}

// badge is what every figure of a host other than bare metal is marked with.
func badge(r *result.Run) string {
	switch r.Environment.Host {
	case result.Emulated:
		return "emulated host"
	case result.Virtual:
		return "virtual host"
	}
	return ""
}

// environment lists the host's properties that figures depend on most.
func environment(r *result.Run) [][2]string {
	e := r.Environment
	list := [][2]string{
		{"processor", fmt.Sprintf("%s, %d processors", e.CPU, e.CPUs)},
		{"host", string(e.Host) + " (" + strings.TrimSpace(e.Machine) + ")"},
		{"memory", size(float64(e.MemoryBytes), 1)},
		{"kernel", e.Kernel},
		{"distribution", e.Distribution},
		{"KVM", e.KVM},
		{"frequency", orNone(e.Governor, "no governor") + ", turbo " + orNone(e.Turbo, "unknown")},
		{"huge pages", orNone(e.THP, "none")},
		{"page merging (KSM)", map[string]string{"0": "off", "1": "on", "2": "off, pages unmerged", "": "none"}[e.KSM]},
		{"clock source", e.Clocksource},
		{"cgroups", e.Cgroup},
		{"load at the start", e.Load},
	}
	return list
}

func orNone(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

// drawn is a figure in the page.
type drawn struct {
	*Figure
	Drawing template.HTML
}

// summary is the table of the summary.
type summary struct {
	Titles []string
	Rows   [][]string
}

func summarize(r *result.Run) summary {
	t := summary{Titles: []string{"runtime", "app"}}
	for _, c := range columns {
		t.Titles = append(t.Titles, c.title)
	}
	for _, s := range subjects(r) {
		row := []string{s.Runtime, s.App}
		for _, c := range columns {
			row = append(row, c.cell(r, s))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// confined says of each row whose process the workload was, and what was kept from it.
func confined(r *result.Run) [][]string {
	var rows [][]string
	for _, s := range subjects(r) {
		if s.Confined != "" {
			rows = append(rows, []string{s.Runtime, s.App, s.Confined})
		}
	}
	return rows
}

// HTML is the page: one file, which needs no other and no network.
func HTML(r *result.Run, figures []*Figure) ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"class": func(v Verdict) string {
			return strings.ReplaceAll(strings.TrimPrefix(string(v), "not "), "measured", "unmeasured")
		},
	}).Parse(page)
	if err != nil {
		return nil, err
	}
	data := struct {
		Title, Caution, Badge    string
		Run                      *result.Run
		Environment, Mitigations [][2]string
		Summary                  summary
		Confined                 [][]string
		Claims                   []Judged
		Figures                  []drawn
		Drawn                    map[string]bool
		Absent                   []string
	}{
		Title: title(r), Caution: r.Environment.Caution(), Badge: badge(r), Run: r, Environment: environment(r),
		Summary: summarize(r), Confined: confined(r), Claims: Judge(r), Drawn: map[string]bool{}, Absent: Absent(r),
	}
	for _, name := range slices.Sorted(maps.Keys(r.Environment.Mitigations)) {
		data.Mitigations = append(data.Mitigations, [2]string{name, r.Environment.Mitigations[name]})
	}
	for _, f := range figures {
		svg, err := f.SVG()
		if err != nil {
			return nil, err
		}
		data.Figures = append(data.Figures, drawn{f, template.HTML(inPage(svg, template.HTMLEscapeString(f.Title)))})
		data.Drawn[f.ID] = true
	}
	var out bytes.Buffer
	err = t.Execute(&out, data)
	return out.Bytes(), err
}

// Markdown is the report as a document, with the figures beside it.
func Markdown(r *result.Run, figures []*Figure) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# vmm bench: %s\n", markdown(title(r)))
	if c := r.Environment.Caution(); c != "" {
		p("**%s**\n", c)
	}
	if !r.Complete {
		p("**The run was interrupted: not all of it is here.**\n")
	}
	p("## The host\n")
	for _, e := range environment(r) {
		p("- %s: %s", e[0], markdown(e[1]))
	}
	p("\n## Summary\n")
	s := summarize(r)
	markdownTable(&b, s.Titles, s.Rows)
	p("\n## What each had\n")
	markdownTable(&b, []string{"runtime", "app", "the workload is"}, confined(r))
	p("\n## The claims\n")
	var rows [][]string
	for _, c := range Judge(r) {
		rows = append(rows, []string{c.ID, c.Text, string(c.Verdict), c.Because})
	}
	markdownTable(&b, []string{"", "claim", "this run", "because"}, rows)
	for _, f := range figures {
		mark := ""
		if m := badge(r); m != "" {
			mark = " (" + m + ")"
		}
		p("\n## %s%s\n\n![%s](%s/%s.svg)\n\n%s\n", f.Title, mark, f.Title, FiguresDir, f.ID, f.How)
		markdownTable(&b, f.Columns, f.Rows)
	}
	if lines := Absent(r); len(lines) > 0 {
		p("\n## Not measured, or failed\n")
		for _, line := range lines {
			p("- %s", markdown(line))
		}
	}
	return b.Bytes()
}

// marks are the characters that mean something in Markdown or HTML, and how to write
// them so that they do not.
var marks = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;", `\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "|", `\|`, "~", `\~`, "!", `\!`, "#", `\#`,
	"://", "&#58;//", "www.", "www&#46;",
)

// markdown is text as it is to be seen in a document: a container's output may be
// part of it, or the name of an image.
func markdown(text string) string { return marks.Replace(untrusted.Text(text)) }

func markdownTable(b *bytes.Buffer, titles []string, rows [][]string) {
	line := func(cells []string) {
		for _, c := range cells {
			b.WriteString("| " + markdown(c) + " ")
		}
		b.WriteString("|\n")
	}
	line(titles)
	b.WriteString(strings.Repeat("|---", len(titles)) + "|\n")
	for _, r := range rows {
		line(r)
	}
}
