package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealane/sealane/internal/model"
)

// usageError is a command line that makes no sense.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// polish gives every command our help and our errors.
func polish(root *cobra.Command) {
	root.SetHelpFunc(help)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(&cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show what a command does",
		RunE: func(c *cobra.Command, args []string) error {
			cmd, err := find(root, args)
			if err == nil {
				help(cmd, nil)
			}
			return err
		},
	})
	plain(root)
}

// plain keeps flags in our order, and their forms as we wrote them.
func plain(c *cobra.Command) {
	c.Flags().SortFlags = false
	c.DisableFlagsInUseLine = true
	for _, sub := range c.Commands() {
		plain(sub)
	}
}

// find returns the command that args name, and an error with the nearest match
// if there is none of that name.
func find(root *cobra.Command, args []string) (*cobra.Command, error) {
	cmd, rest, err := root.Find(args)
	if err != nil {
		cmd, rest = root, words(args)
	}
	if rest := words(rest); !cmd.Runnable() && len(rest) > 0 && rest[0] != "help" {
		if err := strangeFlag(cmd, args[:slices.Index(args, rest[0])]); err != nil {
			return cmd, err // cobra takes the command behind it for its value
		}
		var names []string
		for _, c := range cmd.Commands() {
			names = append(names, c.Name())
		}
		return cmd, usage("%s: no such command%s", strings.TrimPrefix(cmd.CommandPath()+" "+rest[0], "sealane "), suggest(rest[0], names, ""))
	}
	return cmd, nil
}

// strangeFlag is the error of the first flag that cmd does not know, if there is one.
func strangeFlag(cmd *cobra.Command, args []string) error {
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		switch long, isLong := strings.CutPrefix(name, "--"); {
		case name == "--":
			return nil
		case isLong && cmd.Flag(long) == nil:
			return flagError(cmd, fmt.Errorf("unknown flag: --%s", long))
		case !isLong && len(name) > 1 && name[0] == '-' && cmd.Flags().ShorthandLookup(name[1:2]) == nil:
			return flagError(cmd, fmt.Errorf("unknown shorthand flag: %q in %s", name[1], arg))
		}
	}
	return nil
}

// words leaves out what looks like a flag. The value of --socket, the only one
// that may stand before a command, goes with it.
func words(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--socket":
			i++
		case !strings.HasPrefix(args[i], "-"):
			out = append(out, args[i])
		}
	}
	return out
}

// flagError says which flag is wrong, with the nearest match.
func flagError(c *cobra.Command, err error) error {
	text, at := err.Error(), ""
	if c.HasParent() {
		at = path(c) + ": "
	}
	if name, ok := strings.CutPrefix(text, "unknown flag: --"); ok {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		return usage("%sno such flag: --%s%s", at, name, suggest(name, names, "--"))
	}
	if _, name, ok := strings.Cut(text, "unknown shorthand flag: "); ok {
		return usage("%sno such flag: %s", at, name)
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usage("%s--%s %q: want %s", at, e.GetFlag().Name, e.GetValue(), wanted(e.GetFlag()))
	}
	return usage("%s%s", at, text)
}

// wanted is what the value of a flag has to be.
func wanted(f *pflag.Flag) string {
	if f.Value.Type() == "bool" {
		return "true or false"
	}
	kind, _ := pflag.UnquoteUsage(f)
	return "a " + strings.ToLower(kind)
}

// checkFlags refuses values that are nothing: an empty variable of a script
// must not mean that something is chosen. Nor are there names, addresses or
// labels that are not UTF-8, as paths and the environment may be.
func checkFlags(c *cobra.Command) error {
	var err error
	c.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		switch {
		case err != nil, f.Value.Type() == "func": // those look at it themselves and have no text
		case slices.Contains(values, ""):
			err = usage("%s: --%s: is empty", path(c), f.Name)
		case slices.Contains([]string{"env", "workdir", "file", "socket"}, f.Name):
		case slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }):
			err = usage("%s: --%s: is not UTF-8", path(c), f.Name)
		}
	})
	return err
}

// path is a command without the program's name.
func path(c *cobra.Command) string {
	return strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), c.Root().Name()), " ")
}

// args demands at least low and at most high arguments (no limit if negative),
// none of them empty.
func args(low, high int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		form := strings.TrimPrefix(c.Use, c.Name()+" ")
		if form == c.Name() {
			form = "no arguments"
		}
		if len(args) < low || high >= 0 && len(args) > high {
			return usage("%s: want %s", path(c), form)
		}
		if slices.Contains(args, "") {
			return usage("%s: an argument is empty: want %s", path(c), form)
		}
		return nil
	}
}

// suggest names the candidate that is nearest to word, if one is near.
func suggest(word string, candidates []string, dashes string) string {
	best, bestDistance := "", 1+max(1, (len(word)+2)/3)
	for _, c := range candidates {
		d := model.Distance(word, c)
		if strings.HasPrefix(c, word) && word != "" {
			d = 1
		}
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s%s?)", dashes, best)
}
