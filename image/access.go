package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Access is who can log in to a Debian system. Its console always is a login without
// a password for root, unless root is given one.
type Access struct {
	// Hostname is the system's name; "" for "vmm".
	Hostname string
	// User is a user to make, who may become root where sudo is installed; "" for
	// none.
	User string
	// Password is that of User, or of root without a User; "" for none.
	Password string
	// SSHKey is a file with public keys that User, or root without one, may log in
	// with; "" for none. It adds the package openssh-server.
	SSHKey string
}

var (
	hostname = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) // RFC 1123 §2.1
	userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)             // useradd(8)
	keyLine  = regexp.MustCompile(`(^|\s)(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+`)
)

// Check looks for what no system can have.
func (a *Access) Check() error {
	switch {
	case a.Hostname != "" && !hostname.MatchString(a.Hostname):
		return fmt.Errorf("%q is no name of a host: it has lower-case letters, digits and hyphens, at most 63", a.Hostname)
	case a.User != "" && !userName.MatchString(a.User):
		return fmt.Errorf("%q is no name of a user: it has lower-case letters, digits, hyphens and underscores, at most 32", a.User)
	case a.User == "root":
		return errors.New("root is there already: leave the user out")
	case strings.ContainsAny(a.Password, "\n\r\x00"):
		return errors.New("a password is one line")
	}
	if a.SSHKey == "" {
		return nil
	}
	_, err := a.keys()
	return err
}

// keys are the lines of SSHKey.
func (a *Access) keys() (string, error) {
	text, err := os.ReadFile(a.SSHKey)
	if err != nil {
		return "", fmt.Errorf("the public key: %w", err)
	}
	if strings.Contains(string(text), "PRIVATE KEY") {
		return "", fmt.Errorf("%s is a private key: give the public one, %s.pub", a.SSHKey, a.SSHKey)
	}
	if !keyLine.Match(text) {
		return "", fmt.Errorf("%s holds no public key; ssh-keygen makes a pair of them", a.SSHKey)
	}
	return strings.TrimRight(string(text), "\n") + "\n", nil
}

// packages are those that the access takes.
func (a *Access) packages() []string {
	if a.SSHKey != "" {
		return []string{"openssh-server"}
	}
	return nil
}

// files are those that tell the system its name.
func (a *Access) files() map[string]string {
	if a.Hostname == "" {
		return nil
	}
	return map[string]string{
		"etc/hostname": a.Hostname + "\n",
		"etc/hosts":    "127.0.0.1 localhost\n127.0.1.1 " + a.Hostname + "\n::1 localhost ip6-localhost ip6-loopback\n",
	}
}

// hooks are commands of mmdebstrap's that set the access up, with their files in a
// folder of this host.
func (a *Access) hooks(folder string) ([]string, error) {
	who, home := "root", "/root"
	var all []string
	hook := func(command string) { all = append(all, "--customize-hook="+command) }
	if a.User != "" {
		who, home = a.User, "/home/"+a.User
		hook(`chroot "$1" useradd --create-home --shell /bin/bash ` + who)
		hook(`if chroot "$1" getent group sudo >/dev/null; then chroot "$1" usermod --append --groups sudo ` + who + `; fi`)
	}
	if a.User != "" || a.Password == "" {
		// Whoever has the console has the machine.
		hook(`chroot "$1" passwd --delete root`)
	}
	if a.Password != "" {
		// A file: the command lines of programs are everybody's to read.
		path := filepath.Join(folder, "password")
		if err := os.WriteFile(path, []byte(who+":"+a.Password+"\n"), 0o600); err != nil {
			return nil, err
		}
		hook(`chroot "$1" chpasswd <` + quote(path))
	}
	if a.SSHKey != "" {
		keys, err := a.keys()
		if err != nil {
			return nil, err
		}
		path := filepath.Join(folder, "authorized_keys")
		if err := os.WriteFile(path, []byte(keys), 0o600); err != nil {
			return nil, err
		}
		ssh := `"$1"` + home + "/.ssh"
		hook("mkdir -m 700 -p " + ssh + " && cp " + quote(path) + " " + ssh + "/authorized_keys && chmod 600 " + ssh + "/authorized_keys")
		hook(`chroot "$1" chown -R ` + who + ": " + home + "/.ssh")
	}
	return all, nil
}
