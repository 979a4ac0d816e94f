package unikernel

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// curl, whose HTTP is nobody's here, gets the answers.
func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatalf("%v; install curl", err)
	}
	const url = "http://" + forwarded
	long := "[" + strings.TrimSuffix(strings.Repeat("       7,", 100), ",") + "]"
	tests := []struct {
		name string
		args []string
		want string // status of each answer, and how many connections were made for it
	}{
		{"greeting", []string{url + "/"}, "200 1"},
		{"two over one connection", []string{url + "/todos", "-o", "/dev/null", url + "/todos/5"}, "200 1\n200 0"},
		{"nothing there", []string{url + "/todos/6"}, "404 1"},
		{"HTTP/1.0", []string{"--http1.0", url + "/"}, "200 1"},
		{"without the body", []string{"--head", url + "/todos"}, "200 1"},
		{"sort", []string{"-d", "[3,1,2]", url + "/sort"}, "200 1"},
		{"a body that is waited for", []string{"-H", "Expect: 100-continue", "-d", long, url + "/sort"}, "200 1"},
		{"a body in pieces", []string{"-H", "Transfer-Encoding: chunked", "-d", "[2,1]", url + "/sort"}, "200 1"},
		{"another method", []string{"-X", "DELETE", url + "/todos"}, "405 1"},
	}
	each(t, func(t *testing.T, m monitor) {
		g := m.start(t, 16, user, "")
		g.expect(listening)
		for _, tt := range tests {
			args := append([]string{"--silent", "--show-error", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n"}, tt.args...)
			out, err := exec.Command("curl", args...).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v: %s", tt.name, err, out)
			}
			if diff := cmp.Diff(tt.want, strings.TrimSpace(string(out))); diff != "" {
				t.Errorf("%s: %s", tt.name, diff)
			}
		}
		out, err := exec.Command("curl", "--silent", "-d", "[3,-1,2]", url+"/sort").Output()
		if err != nil || strings.TrimSpace(string(out)) != "[-1,2,3]" {
			t.Errorf("sort: %v: %q", err, out)
		}
	})
}
