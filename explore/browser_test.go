package explore_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// missing skips a test, or fails it where everything is to be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("VMM_REQUIRE_KVM") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// programs builds vmm and vmm-tools, and returns the path of vmm.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "explore")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "vmm/cmd/vmm", "vmm/cmd/vmm-tools")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return filepath.Join(dir, "vmm"), nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if vmm, err := programs(); err == nil {
		os.RemoveAll(filepath.Dir(vmm))
	}
	os.Exit(status)
}

// page is a browser with the page of a machine that vmm explore started.
type page struct {
	*testing.T
	context.Context
	mu        sync.Mutex
	complaint []string // of the browser's console
}

// open opens the page of a new machine, and waits for it to be in a state.
func open(t *testing.T, state string, flags ...string) *page {
	t.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		missing(t, "chromium is not installed")
	}
	if _, err := os.Stat("/dev/kvm"); err != nil {
		missing(t, "there is no KVM")
	}
	vmm, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(vmm, append([]string{"explore", "--"}, flags...)...)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	var url string
	lines := bufio.NewScanner(said)
	for url == "" && lines.Scan() {
		url = regexp.MustCompile(`http://\S+`).FindString(lines.Text())
	}
	if url == "" {
		t.Fatal("vmm explore has printed no address")
	}
	go func() {
		for lines.Scan() {
		}
	}()

	limited, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.WindowSize(1280, 1500))
	allocator, stop := chromedp.NewExecAllocator(limited, options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(allocator)
	t.Cleanup(end)
	p := &page{T: t, Context: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			p.complaint = append(p.complaint, e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError {
				p.complaint = append(p.complaint, e.Entry.Text+" "+e.Entry.URL)
			}
		}
	})
	p.do(chromedp.Navigate(url))
	p.untilState(state)
	return p
}

func (p *page) do(actions ...chromedp.Action) {
	p.Helper()
	if err := chromedp.Run(p.Context, actions...); err != nil {
		p.Fatal(err)
	}
}

// text is the text of an element.
func (p *page) text(selector string) (s string) {
	p.Helper()
	p.do(chromedp.Evaluate(fmt.Sprintf(`document.querySelector(%q).textContent`, selector), &s))
	return s
}

// until waits until an expression is true.
func (p *page) until(expression string) {
	p.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var is bool
		p.do(chromedp.Evaluate("!!("+expression+")", &is))
		if is {
			return
		}
		if time.Now().After(end) {
			p.Fatalf("not so after 20 s: %s; the page says: %s", expression, p.text("#error"))
		}
	}
}

func (p *page) untilState(state string) {
	p.Helper()
	p.until(fmt.Sprintf(`document.querySelector("#state").textContent === %q`, state))
}

// look keeps a picture of the page where EXPLORE_PICTURES says, in both schemes.
func (p *page) look(name string) {
	p.Helper()
	dir := os.Getenv("EXPLORE_PICTURES")
	for _, scheme := range []string{"light", "dark"} {
		var picture []byte
		p.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
			chromedp.FullScreenshot(&picture, 100))
		if len(picture) == 0 {
			p.Errorf("no picture in %s colours", scheme)
		}
		if dir != "" {
			if err := os.WriteFile(filepath.Join(dir, name+"-"+scheme+".png"), picture, 0o644); err != nil {
				p.Error(err)
			}
		}
	}
}

// quiet fails if the browser, or the page, has complained.
func (p *page) quiet() {
	p.Helper()
	var shown bool
	p.do(chromedp.Evaluate(`!document.querySelector("#error").hidden`, &shown))
	if shown {
		p.Errorf("the page complains: %s", p.text("#error"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.complaint {
		p.Errorf("the browser's console: %s", c)
	}
}

// kernel assembles a kernel of testdata.
func kernel(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".elf")
	if out, err := exec.Command("gcc", "-nostdlib", "-static", "-Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack",
		"-o", path, "testdata/"+name+".S").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

// A machine is paused, stepped and continued, by keys alone, and typed to.
func TestProcessorAndConsole(t *testing.T) {
	p := open(t, "running", "--kernel", kernel(t, "echo"), "--memory", "16M")

	p.do(chromedp.KeyEvent("p"))
	p.untilState("paused")
	p.until(`document.querySelector("#mode").textContent.startsWith("paused, 32-bit code, privilege level 0")`)
	// The loop waits for a byte: in, test, jz; three steps come back.
	visited := map[string]bool{}
	for range 4 {
		at := p.text("#code tr.next td")
		visited[at] = true
		p.do(chromedp.KeyEvent("s"))
		p.until(fmt.Sprintf(`document.querySelector("#code tr.next td").textContent !== %q`, at))
	}
	if len(visited) != 3 {
		t.Errorf("four steps went through %v; want three instructions", visited)
	}
	p.until(`[...document.querySelectorAll("#registers td:first-child")].some(e => e.textContent === "cr0")`)
	p.until(`document.querySelector("#devices details td")`) // there before it is opened
	p.look("paused")
	p.do(chromedp.KeyEvent("p"))
	p.untilState("running")

	p.do(chromedp.Focus("#text"), chromedp.SendKeys("#text", "hello, guest ü"+kb.Enter))
	p.until(`document.querySelector("#output").textContent === "hello, guest ü\n"`)
	// In the console itself each key goes to the guest at once, and is no command.
	p.do(chromedp.Focus("#output"), chromedp.KeyEvent("ps"+kb.Enter+"q"+kb.Backspace+kb.ArrowUp+"r"))
	p.until(`document.querySelector("#output").textContent === "hello, guest ü\nqr"`) // it echoes a return, too
	p.until(`[...document.querySelectorAll("#exits td:first-child")].some(e => e.textContent === "to COM1")`)
	p.until(`document.querySelectorAll("#map tr").length > 2 && document.querySelectorAll(".strip i.t0").length > 100`)
	p.until(`[...document.querySelectorAll("#devices summary")].some(e => e.textContent.startsWith("COM1"))`)
	p.until(`document.querySelectorAll("#timeline meter").length >= 4`)
	p.quiet()
}

// A virtqueue moves as requests pass.
func TestQueue(t *testing.T) {
	build := exec.Command("../guest-images/unikernel/build")
	build.Stderr = os.Stderr
	kernel, err := build.Output()
	if err != nil {
		t.Fatalf("the unikernel: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	p := open(t, "running", "--kernel", strings.TrimSpace(string(kernel)), "--memory", "16M", "--net", "user,hostfwd=tcp:"+addr+"-:8080")
	p.until(`document.querySelector("#output").textContent.includes("listening")`)
	p.until(`document.querySelectorAll("#queue option").length >= 2`)
	p.do(chromedp.SetValue("#queue", "virtio-net0 1"), // what the guest sends
		chromedp.Evaluate(`document.querySelector("#queue").dispatchEvent(new Event("change"))`, nil))
	p.until(`document.querySelectorAll("#descriptors tr").length > 8`)

	before := p.text("#indices")
	client := http.Client{Timeout: 20 * time.Second}
	answer, err := client.Get("http://" + addr + "/todos")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	p.until(fmt.Sprintf(`document.querySelector("#indices").textContent !== %q`, before))
	p.until(`[...document.querySelectorAll("#used td:last-child")].length > 8 && document.querySelector("#used tr.next")`)
	// It is drawn as well: a slot an arc, the two hands, and what is between them.
	p.until(`document.querySelectorAll("#ring path").length === 64 && document.querySelectorAll("#ring polygon").length === 2`)
	p.until(`document.querySelectorAll("#ring .busy").length === Number(/with the device: (\d+)/.exec(document.querySelector("#indices").textContent)[1])`)
	p.do(chromedp.SetValue("#queue", "virtio-net0 0"), // what waits for frames to receive
		chromedp.Evaluate(`document.querySelector("#queue").dispatchEvent(new Event("change"))`, nil))
	p.until(`document.querySelectorAll("#ring .busy").length > 8`)
	p.look("queue")
	p.quiet()
}

// What the guest writes need not be text, and nothing of it is shown twice or not
// at all. When the machine ends, the page says so.
func TestBytesAndEnd(t *testing.T) {
	p := open(t, "running", "--kernel", kernel(t, "bytes"), "--memory", "16M")
	want := "a\ufffd\ufffdbüc\n" + strings.Repeat("\ufffd", 20) + "\nready\n"
	p.until(fmt.Sprintf(`document.querySelector("#output").textContent === %q`, want))
	p.do(chromedp.Focus("#output"), chromedp.KeyEvent("x"))
	p.untilState("ended")
	p.until(`document.querySelector("#pause").disabled && document.querySelector("#step").disabled`)
}

// A machine that begins paused is at its first instruction, and the page follows
// where others step it.
func TestPausedFromTheStart(t *testing.T) {
	p := open(t, "paused", "--paused", "--kernel", kernel(t, "echo"), "--memory", "16M")
	p.until(`document.querySelector("#code tr.next td:last-child")?.textContent === "mov edx, 0x3fd"`)
	p.do(chromedp.Evaluate(`ask({ command: "step" }).then(() => true)`, nil,
		func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) }))
	p.until(`document.querySelector("#code tr.next td:last-child")?.textContent === "in al, dx"`)
	p.until(`document.querySelector("#registers td.changed")`)
	time.Sleep(time.Second) // it is still there when the page has looked again
	p.until(`document.querySelector("#registers td.changed")`)
	p.do(chromedp.EmulateViewport(800, 1200))
	p.look("narrow")
	var fits bool
	p.do(chromedp.Evaluate(`document.documentElement.scrollWidth <= 800`, &fits))
	if !fits {
		t.Error("the page is wider than 800 pixels")
	}
	p.quiet()
}
