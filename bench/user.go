package bench

import (
	"fmt"

	"vmm/bench/runtime"
	"vmm/image/account"
	"vmm/image/tree"
	"vmm/untrusted"
)

// userOf finds out whose process an image wants its program to be. Names are those of
// the image's own lists.
func userOf(files *tree.Tree, text string) (runtime.User, error) {
	if text == "" {
		return runtime.User{}, nil
	}
	passwd, err := list(files, "etc/passwd")
	if err != nil {
		return runtime.User{}, err
	}
	group, err := list(files, "etc/group")
	if err != nil {
		return runtime.User{}, err
	}
	u, err := account.Find(text, passwd, group)
	return runtime.User{UID: u.UID, GID: u.GID, Groups: u.Groups}, err
}

// list is the text of a list of users or groups; "" without the file.
func list(files *tree.Tree, name string) (string, error) {
	f, err := files.Open(name)
	if err != nil {
		return "", nil
	}
	defer f.Close()
	text, err := untrusted.ReadAll(f, account.MaxSize)
	if err != nil {
		return "", fmt.Errorf("/%s: %w", name, err)
	}
	return string(text), nil
}
