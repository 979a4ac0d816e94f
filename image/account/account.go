// Package account finds the user that an image wants its program to be in the
// image's own lists of users and groups. It reads texts, and touches no files.
package account

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxSize is how large /etc/passwd and /etc/group may be, in bytes.
const MaxSize = 1 << 20

// rootName is the user that an image has which names none.
const rootName = "0"

// maxGroups is how many groups a user has at the most, beside the first.
const maxGroups = 100

// User is a user by numbers, with groups beside the first.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Home     string // "" where no list says
}

// Find finds the user that text names: "" for root, or a user, by name or number, and
// perhaps a group behind a colon. Passwd and group are the texts of /etc/passwd and
// /etc/group: passwd(5), group(5). It is as for Docker: a number that is nobody's will
// do, and has the group 0.
func Find(text, passwd, group string) (User, error) {
	var u User
	users, groups := lines(passwd, 4), lines(group, 4)
	name, wanted, hasGroup := strings.Cut(text, ":")
	if name == "" {
		name = rootName
	}
	login := name // the name that lists of groups have
	var err error
	if entry := find(users, name); entry != nil {
		login = entry[0]
		if u.UID, err = id(entry[2]); err == nil {
			u.GID, err = id(entry[3])
		}
		if len(entry) > 5 {
			u.Home = entry[5]
		}
	} else {
		u.UID, err = id(name)
	}
	if err != nil {
		return u, fmt.Errorf("its user %q is not in its /etc/passwd, and no number", text)
	}
	if hasGroup {
		if u.GID, err = Group(wanted, group); err != nil {
			return u, fmt.Errorf("its group %q is not in its /etc/group, and no number", text)
		}
		return u, nil
	}
	if text == "" { // who is root without being named is in no other group
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

// Group is the number of a group, by name or number, where list is the text of
// /etc/group.
func Group(name, list string) (uint32, error) {
	number := name
	if entry := find(lines(list, 4), name); entry != nil {
		number = entry[2]
	}
	n, err := id(number)
	if err != nil {
		return 0, fmt.Errorf("the group %q is not in /etc/group, and no number", name)
	}
	return n, nil
}

// lines are the lines of a list that have so many fields at the least.
func lines(text string, fields int) [][]string {
	var all [][]string
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= fields {
			all = append(all, f)
		}
	}
	return all
}

// find is the line with a name, or else with a number.
func find(all [][]string, name string) []string {
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
