package account

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFind(t *testing.T) {
	passwd := "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:w:/srv:/bin/false\n1000:x:7:7:a number for a name:/\nhuge:x:99999999999:0::/:\nbroken\n"
	group := "root:x:0:\nadm:x:50:root,web\nlogs:x:51:other,web\nbad:x:no:web\n"
	tests := map[string]struct {
		want User
		err  string
	}{
		"":           {want: User{Home: "/root"}},
		"root":       {want: User{Groups: []uint32{50}, Home: "/root"}},
		"web":        {want: User{UID: 33, GID: 34, Groups: []uint32{50, 51}, Home: "/srv"}},
		"33":         {want: User{UID: 33, GID: 34, Groups: []uint32{50, 51}, Home: "/srv"}},
		"web:logs":   {want: User{UID: 33, GID: 51, Home: "/srv"}},
		":logs":      {want: User{GID: 51, Home: "/root"}},
		"5:6":        {want: User{UID: 5, GID: 6}},
		"1000":       {want: User{UID: 7, GID: 7, Home: "/"}},
		"huge":       {err: "no number"},
		"nobody":     {err: "not in its /etc/passwd"},
		"4294967295": {err: "no number"},
		"web:none":   {err: "not in its /etc/group"},
		"web:":       {err: "not in its /etc/group"},
	}
	for text, tt := range tests {
		got, err := Find(text, passwd, group)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("Find(%q): %v, want %q", text, err, tt.err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
			t.Errorf("Find(%q): %s", text, diff)
		}
	}
}
