package share

import (
	"bytes"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxAttribute is the size of an extended attribute at the most, and of a list of
// their names. linux/limits.h.
const MaxAttribute = 64 << 10

// userAttribute is an error for the name of an attribute that is not the user's
// own. The other ones tell the host's kernel what a program may do, and who may
// use a file, of which a guest decides nothing.
func userAttribute(name string) error {
	switch {
	case !strings.HasPrefix(name, "user."):
		return unix.EOPNOTSUPP
	case len(name) > maxName:
		return unix.ERANGE
	case strings.ContainsRune(name, 0):
		return unix.EINVAL
	}
	return nil
}

// Attribute is the value of an extended attribute.
func (n *Node) Attribute(name string) ([]byte, error) {
	if err := userAttribute(name); err != nil {
		return nil, err
	}
	return grown(func(buf []byte) (int, error) { return unix.Getxattr(n.path(), name, buf) })
}

// AttributeNames are the names of the extended attributes, each with a zero byte
// behind it.
func (n *Node) AttributeNames() ([]byte, error) {
	all, err := grown(func(buf []byte) (int, error) { return unix.Listxattr(n.path(), buf) })
	if err != nil {
		return nil, err
	}
	names := all[:0]
	for name := range bytes.SplitAfterSeq(all, []byte{0}) {
		if bytes.HasPrefix(name, []byte("user.")) {
			names = append(names, name...)
		}
	}
	return names, nil
}

// grown is what read puts into a buffer, as large as it has to be.
func grown(read func([]byte) (int, error)) ([]byte, error) {
	size, err := read(nil)
	for err == nil && size > 0 {
		buf := make([]byte, min(size, MaxAttribute))
		if size, err = read(buf); err == nil {
			return buf[:size], nil
		}
		if err == unix.ERANGE { // it has grown meanwhile
			size, err = read(nil)
		}
	}
	return nil, err
}

// SetAttribute sets an extended attribute, with the flags of setxattr(2).
func (n *Node) SetAttribute(name string, value []byte, flags int) error {
	if err := n.MayChangeAttribute(name); err != nil {
		return err
	}
	return unix.Setxattr(n.path(), name, value, flags)
}

// RemoveAttribute removes an extended attribute.
func (n *Node) RemoveAttribute(name string) error {
	if err := n.MayChangeAttribute(name); err != nil {
		return err
	}
	return unix.Removexattr(n.path(), name)
}

// MayChangeAttribute is the error that a change of an attribute with this name would
// have, if that can be told beforehand.
func (n *Node) MayChangeAttribute(name string) error {
	if err := n.change(); err != nil {
		return err
	}
	return userAttribute(name)
}
