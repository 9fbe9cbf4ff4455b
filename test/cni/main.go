// Command cni holds a CNI plugin to its specification. It executes the plugin
// as a container runtime does, with namespaces of its own, through every
// obligation of versions 0.1.0 to 1.1.0, and looks in the kernel at what came
// of it.
//
//	go run ./test/cni -plugin /usr/lib/cni/bridge
//	go run ./test/cni -plugin PATH [-config FILE] [-cni-path DIR:DIR]
//	    [-setup CMD -ready CMD] [-run REGEXP] [-v] [-report FILE.md]
//
// The plugin runs in a host made of namespaces (network, mounts, processes,
// cgroup) with empty /run and /var/lib. The host ends with this program, and the
// machine's own network is not touched. It needs root.
//
// The file of -config is a plugin's object as in the list "plugins" of a network
// configuration. $SUBNET in it is replaced by an IPv4 subnet, $SUBNET6 by an IPv6
// one and $DEVICE by a name for a device on the host, other ones for every network
// that a check makes.
// Without $SUBNET, what needs a small network is not checked. What "capabilities"
// declares is checked and then left out, as the specification has it for the
// object that a plugin is given. Without -config it is the one in configs/ that is
// called like the plugin.
//
// -setup is a command that the plugin needs to be running, such as a daemon; it
// is started once in the host. -ready is a command that succeeds when it is up.
//
// A check is a row: an id, the specification's section, one sentence, and
// whether the plugin passed, failed, or was not concerned. What is not an
// obligation has "convention" or "sense" in place of must and should. The exit
// status is 1 when something failed and 2 when nothing could be checked.
package main

import (
	"embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// configs are configurations of plugins that we know.
//
//go:embed configs
var configs embed.FS

func main() {
	if code, ok := role(os.Args); ok {
		os.Exit(code)
	}
	failed, err := command(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "cni:", err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// target is a plugin and what it needs.
type target struct {
	Label   string // heads its column
	Plugin  string // path of its binary
	Path    string // CNI_PATH
	Config  string // its object, with $SUBNET, $SUBNET6 and $DEVICE
	Setup   string // a command that has to run, or nothing
	Ready   string // a command that succeeds when Setup does its job
	Pattern string // checks whose id does not match are left out
	Verbose bool   // say on standard error how each check came out, and how long it took
}

// command is the program: it returns how many checks failed.
func command(args []string) (int, error) {
	f := flag.NewFlagSet("cni", flag.ExitOnError)
	var t target
	f.StringVar(&t.Plugin, "plugin", "", "the plugin's binary")
	f.StringVar(&t.Path, "cni-path", "", "CNI_PATH (default the plugin's directory)")
	f.StringVar(&t.Setup, "setup", "", "a shell command to run in the host meanwhile")
	f.StringVar(&t.Ready, "ready", "true", "a shell command that succeeds when -setup is up")
	f.StringVar(&t.Pattern, "run", "", "a regular expression: check these ids only")
	f.BoolVar(&t.Verbose, "v", false, "say on standard error how each check came out")
	config := f.String("config", "", "the plugin's configuration object (default the one known for it)")
	report := f.String("report", "", "a Markdown file to write (default standard output)")
	if err := f.Parse(args); err != nil {
		return 0, err
	}
	if t.Plugin == "" || f.NArg() > 0 {
		f.Usage()
		return 0, fmt.Errorf("want -plugin and no arguments")
	}
	if err := t.complete(*config); err != nil {
		return 0, err
	}
	col, err := t.check()
	if err != nil {
		return 0, err
	}
	text := table([]column{col})
	if *report == "" {
		fmt.Print(strings.TrimPrefix(text, "\n"))
		return col.count(failed), nil
	}
	return col.count(failed), os.WriteFile(*report, []byte(strings.TrimPrefix(text, "\n")), 0o644)
}

// complete fills in what follows from the plugin's path.
func (t *target) complete(config string) error {
	path, err := filepath.Abs(t.Plugin)
	if err != nil {
		return err
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("plugin %s: not an executable file", path)
	}
	t.Plugin = path
	if t.Label == "" {
		t.Label = filepath.Base(path)
	}
	if t.Path == "" {
		t.Path = filepath.Dir(path)
	}
	var text []byte
	if config != "" {
		text, err = os.ReadFile(config)
	} else if text, err = configs.ReadFile("configs/" + filepath.Base(path) + ".json"); err != nil {
		err = fmt.Errorf("plugin %s: no configuration is known for it: want -config", filepath.Base(path))
	}
	t.Config = string(text)
	return err
}

// has says whether the configuration has a $NAME to be replaced.
func (t *target) has(name string) bool {
	found := false
	os.Expand(t.Config, func(n string) string {
		found = found || n == name
		return ""
	})
	return found
}
