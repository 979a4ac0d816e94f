package system

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmm/control"
)

// page asks as the page of vmm explore does.
type page struct {
	testing.TB
	url string
}

// explored starts vmm explore for a running machine.
func explored(t testing.TB, v *vm) page {
	t.Helper()
	cmd := exec.Command(env(t, "VMM_BIN"), "explore", v.control)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(said).ReadString('\n')
	url := regexp.MustCompile(`http://\S+/`).FindString(line)
	if url == "" {
		t.Fatalf("vmm explore says %q, %v", line, err)
	}
	return page{t, url}
}

// ask sends a request and decodes the result, if it is wanted.
func (p page) ask(r control.Request, result any) {
	p.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		p.Fatal(err)
	}
	response, err := http.Post(p.url+"call", "application/json", bytes.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.Fatal(err)
	}
	var answer control.Response
	if err := json.Unmarshal(text, &answer); err != nil || response.StatusCode != http.StatusOK || answer.Error != "" {
		p.Fatalf("%s: %s, %s", body, response.Status, text)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		p.Fatalf("%s: %v in %s", body, err, text)
	}
}

// inspect asks for something to look at.
func (p page) inspect(what string, result any) {
	p.Helper()
	p.ask(control.Request{Command: control.Inspect, What: what}, result)
}

// processor is a part of what the page shows of a vCPU.
type processor struct {
	Bits int
	Next string
	Code []struct{ Text, Symbol string }
}

// What vmm explore shows of a Linux guest: where its kernel is, by name, one
// instruction after the other; its memory, devices and rings, as they move; and
// what is typed.
func TestExplore(t *testing.T) {
	v := serve(t)
	p := explored(t, v)
	response, err := http.Get(p.url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if html, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(html), "app.js") {
		t.Errorf("the page: %s, %v\n%s", response.Status, err, html)
	}

	// A guest with nothing to do is held in its kernel.
	p.ask(control.Request{Command: control.Pause}, nil)
	var at processor
	p.inspect("processor", &at)
	if at.Bits != 64 || len(at.Code) == 0 || !regexp.MustCompile(`idle|halt|hlt`).MatchString(at.Code[0].Symbol) {
		t.Errorf("an idle guest is at %+v", at)
	}
	p.ask(control.Request{Command: control.Resume}, nil)

	// One that computes goes from instruction to instruction.
	v.sh("(while :; do :; done) >/dev/null 2>&1 & echo $! >/run/busy; sleep 1")
	p.ask(control.Request{Command: control.Pause}, nil)
	been := map[string]bool{}
	for range 20 {
		p.ask(control.Request{Command: control.Step}, nil)
		p.inspect("processor", &at)
		been[at.Next] = true
	}
	if len(been) < 5 {
		t.Errorf("20 steps lead to %d instructions: %v", len(been), been)
	}
	p.ask(control.Request{Command: control.Resume}, nil)
	v.sh("kill $(cat /run/busy)")

	var ring struct {
		Size           int
		AvailableIndex int `json:"available_index"`
		UsedIndex      int `json:"used_index"`
	}
	disk := control.Request{Command: control.Inspect, What: "rings", Device: "virtio-blk0"}
	p.ask(disk, &ring)
	before := ring
	v.sh("dd if=/dev/vda of=/dev/null bs=1M count=4 iflag=direct status=none")
	p.ask(disk, &ring)
	if ring.Size == 0 || ring.UsedIndex == before.UsedIndex || ring.UsedIndex != ring.AvailableIndex {
		t.Errorf("the disk's ring, before and after reading: %+v, %+v", before, ring)
	}

	var regions []struct{ Size, Touched int64 }
	p.inspect("touched", &regions)
	touched := int64(0)
	for _, r := range regions {
		touched += r.Touched
	}
	if touched < 32*mib || touched > 512*mib {
		t.Errorf("touched: %d MiB", touched/mib)
	}
	var devices []struct{ Name string }
	p.inspect("devices", &devices)
	if text := fmt.Sprint(devices); !strings.Contains(text, "COM1") || !strings.Contains(text, "APIC") {
		t.Errorf("devices: %s", text)
	}

	// What is typed arrives, and what is answered is shown.
	p.ask(control.Request{Command: control.Type, Text: "\"echo it is $((6*7))\"\n"}, nil)
	var console struct{ Text string }
	for range 100 {
		if p.inspect("console", &console); strings.Contains(console.Text, "it is 42") {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if !strings.Contains(console.Text, "it is 42") {
		t.Errorf("the console: %q", console.Text)
	}
	v.powerOff()
}
