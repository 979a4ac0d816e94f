package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// FlagGroup is a title in a command's help, and the flags below it.
type FlagGroup struct {
	Title string
	Flags []string
}

// groupOf is the annotation of a flag that names its group.
const groupOf = "group"

// GroupFlags has the help of a command show its flags in groups.
func GroupFlags(cmd *cobra.Command, groups ...FlagGroup) {
	for _, g := range groups {
		for _, name := range g.Flags {
			if err := cmd.Flags().SetAnnotation(name, groupOf, []string{g.Title}); err != nil {
				panic(err) // no such flag: a mistake of the caller
			}
		}
	}
}

// usage writes how a command is used, without text/template: with that in it, a
// program is larger, for the linker then keeps every method.
func usage(cmd *cobra.Command) error {
	w := cmd.OutOrStderr()
	fmt.Fprint(w, "Usage:\n")
	if cmd.Runnable() && cmd.HasParent() {
		fmt.Fprintf(w, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s [command]\n", cmd.CommandPath())
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	commands(w, cmd)
	flags(w, cmd.LocalFlags())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nUse \"%s [command] --help\" for more information about a command.\n", cmd.CommandPath())
	}
	return nil
}

// commands lists the commands of a command, by their groups.
func commands(w io.Writer, cmd *cobra.Command) {
	titles := []string{""}
	for _, g := range cmd.Groups() {
		titles = append(titles, g.ID)
	}
	for _, title := range titles {
		var lines strings.Builder
		for _, c := range cmd.Commands() {
			if c.GroupID == title && (c.IsAvailableCommand() || c.Name() == "help") {
				fmt.Fprintf(&lines, "  %-*s %s\n", c.NamePadding(), c.Name(), c.Short)
			}
		}
		if lines.Len() > 0 {
			if title == "" {
				title = "Commands:"
			}
			fmt.Fprintf(w, "\n%s\n%s", title, lines.String())
		}
	}
}

// flags lists flags, by their groups in the order in which those come; "Flags:"
// comes last.
func flags(w io.Writer, all *pflag.FlagSet) {
	const rest = "Flags:"
	var titles []string
	sets := map[string]*pflag.FlagSet{}
	all.VisitAll(func(f *pflag.Flag) {
		title := rest
		if g := f.Annotations[groupOf]; len(g) > 0 {
			title = g[0]
		}
		if sets[title] == nil {
			sets[title] = pflag.NewFlagSet(title, pflag.ContinueOnError)
			sets[title].SortFlags = false
			titles = append(titles, title)
		}
		sets[title].AddFlag(f)
	})
	titles = append(slices.DeleteFunc(titles, func(t string) bool { return t == rest }), rest)
	for _, title := range titles {
		if s := sets[title]; s != nil && s.HasAvailableFlags() {
			fmt.Fprintf(w, "\n%s\n%s", title, s.FlagUsages())
		}
	}
}
