package bench

import (
	"fmt"
	"strconv"
	"strings"

	"vmm/bench/runtime"
	"vmm/image/tree"
	"vmm/untrusted"
)

// userOf finds out whose process an image wants its program to be: "" for root's, or
// a user's, by name or number, and perhaps a group's behind a colon. Names are those
// of the image's own /etc/passwd and /etc/group: passwd(5), group(5). It is as for
// Docker: a number that is nobody's will do, and has the group 0.
func userOf(files *tree.Tree, text string) (runtime.User, error) {
	var u runtime.User
	if text == "" {
		return u, nil
	}
	name, group, hasGroup := strings.Cut(text, ":")
	passwd, err := lines(files, "etc/passwd", 4)
	if err != nil {
		return u, err
	}
	groups, err := lines(files, "etc/group", 4)
	if err != nil {
		return u, err
	}
	login := name // the name that lists of groups have
	if entry := account(passwd, name); entry != nil {
		login = entry[0]
		if u.UID, err = id(entry[2]); err == nil {
			u.GID, err = id(entry[3])
		}
	} else {
		u.UID, err = id(name)
	}
	if err != nil {
		return u, fmt.Errorf("its user %q is not in its /etc/passwd, and no number", text)
	}
	if hasGroup {
		number := group
		if entry := account(groups, group); entry != nil {
			number = entry[2]
		}
		if u.GID, err = id(number); err != nil {
			return u, fmt.Errorf("its group %q is not in its /etc/group, and no number", text)
		}
		return u, nil
	}
	for _, g := range groups {
		for member := range strings.SplitSeq(g[3], ",") {
			if n, err := id(g[2]); member == login && err == nil && n != u.GID && len(u.Groups) < maxGroups {
				u.Groups = append(u.Groups, n)
			}
		}
	}
	return u, nil
}

// maxGroups is how many groups a user has at the most, beside the first.
const maxGroups = 100

// maxAccounts is how large /etc/passwd and /etc/group may be, in bytes.
const maxAccounts = 1 << 20

// lines are the lines of a file of the image that have so many fields at the least;
// none without the file.
func lines(files *tree.Tree, name string, fields int) ([][]string, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	text, err := untrusted.ReadAll(f, maxAccounts)
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", name, err)
	}
	var all [][]string
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= fields {
			all = append(all, f)
		}
	}
	return all, nil
}

// account is the line with a name, or else with a number.
func account(all [][]string, name string) []string {
	for _, field := range []int{0, 2} {
		for _, line := range all {
			if line[field] == name {
				return line
			}
		}
	}
	return nil
}

// id reads a number of a user or group. The largest ones mean none.
func id(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	return uint32(n), err
}
