package main

import (
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"vmm/tools"
)

// toolCommands are the commands that the program vmm-tools has. They are not part of
// this one: what their libraries take to initialize, and the memory for it,
// every machine would pay for.
var toolCommands = map[string]string{ // with what they do, for the list of commands
	"bench":   "Measure virtual machines against containers and unikernels",
	"explore": "Look at a running machine in a web browser",
	"image":   "Make disk images",
	"kernel":  "Get kernels for guests",
	"run":     "Run a container image as a virtual machine",
	"ps":      "Show the machines that run images",
	"exec":    "Execute a program in a machine that runs an image",
	"logs":    "Show what the program of a detached machine has said",
	"stop":    "Ask the program of a machine to end",
	"kill":    "Send the program of a machine a signal",
	"rm":      "Remove what is kept of detached machines that have ended",
}

// wantsTools reports whether a command line, or the completion of one, is for
// vmm-tools.
func wantsTools(args []string) bool {
	if len(args) > 1 && slices.Contains([]string{"help", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, args[0]) {
		args = args[1:]
	}
	if len(args) == 0 {
		return false
	}
	_, ok := toolCommands[args[0]]
	return ok
}

// execTools goes on as vmm-tools. It returns only with an error.
func execTools() error {
	path, err := tools.Path()
	if err != nil {
		return err
	}
	return &os.PathError{Op: "execute", Path: path, Err: unix.Exec(path, os.Args, os.Environ())}
}

// explore goes on as "vmm explore", with the flags of a command line of "vmm boot"
// but --web.
func explore(web string, flags *pflag.FlagSet, line []string) error {
	// Without the page that a configuration file asks for: this is it.
	all := []string{"vmm", "explore", "--web", web, "--", "--web="}
	err := flags.ParseAll(line, func(f *pflag.Flag, value string) error {
		if f.Name != "web" {
			all = append(all, "--"+f.Name+"="+value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	path, err := tools.Path()
	if err != nil {
		return err
	}
	return &os.PathError{Op: "execute", Path: path, Err: unix.Exec(path, all, os.Environ())}
}

// inTools is a command of vmm-tools, for the list of commands.
func inTools(name string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: toolCommands[name], DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error { return execTools() },
	}
}
