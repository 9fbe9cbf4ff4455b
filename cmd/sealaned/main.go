// Command sealaned is the Sealane daemon: it keeps the networks of one host,
// the namespace it is started in, as intended, and serves the API. This file
// reads the settings; run.go connects the parts.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/sealane/sealane/internal/dockerplugin"
	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel/uplink"
	"github.com/sealane/sealane/internal/metrics"
	"github.com/sealane/sealane/internal/model"
)

// version is set at build time.
var version = "dev"

// settings are the daemon's few settings. Each is a flag, and one of the file that
// --config names; a flag wins over the file.
type settings struct {
	StateDir  string
	RunDir    string
	Socket    string
	Docker    string
	NodeName  string
	Metrics   string
	Accepted  string
	LogLevel  string
	LogFormat string
	Bridge    bridgeSettings
	Cluster   clusterSettings
	config    string
	teardown  bool
	accepted  driver.Mark
	network   engine.DefaultNetwork
}

// The first thread is what /proc/PID/ns shows of us. It must not be one that visits a
// sandbox: we would look like a process of the sandbox. When main begins it may be too
// late: another thread may run that already.
func init() { runtime.LockOSThread() }

func main() {
	uplink.Stage()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	done := make(chan error)
	go func() { done <- command().ExecuteContext(ctx) }()
	err := <-done
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "sealaned:", strings.Join(model.Lines(err), "; "))
	if _, usage := errors.AsType[*usageError](err); usage {
		os.Exit(2)
	}
	os.Exit(1)
}

// maxSocket is the longest path of the socket in bytes: it is made under a
// longer name (listenPrivately), which has to fit into 107 (unix(7)).
const maxSocket = 107 - len(".new")

// usageError is a mistake on the command line or in the settings file.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func command() *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use:           "sealaned",
		Short:         "The Sealane daemon; usually started as `sealane daemon`",
		Version:       version,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unexpected argument %q", args[0])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			if err := s.complete(c); err != nil {
				return &usageError{err}
			}
			if os.Geteuid() != 0 {
				return errors.New("needs root: it makes devices, namespaces and firewall rules")
			}
			if s.teardown {
				return teardown(c.Context(), s)
			}
			return run(c.Context(), s)
		},
	}
	f := c.Flags()
	f.StringVar(&s.StateDir, "state-dir", "/var/lib/sealane", "where intent is kept")
	f.StringVar(&s.RunDir, "run-dir", "/run/sealane", "where namespaces, sandboxes' files and the socket are")
	f.StringVar(&s.Socket, "socket", "", "the API's socket (default RUN-DIR/sealane.sock)")
	f.StringVar(&s.Docker, "docker-plugin", dockerplugin.Socket, "the socket where Docker finds Sealane as a network and IPAM driver; '' for none")
	f.StringVar(&s.config, "config", "", "a YAML file with these settings by name")
	f.StringVar(&s.NodeName, "node-name", "", "this host's name in the log (default its host name)")
	s.Cluster.flags(f)
	f.StringVar(&s.Metrics, "metrics", "", "where Prometheus finds metrics, at /metrics: ADDRESS:PORT, :PORT or unix:/PATH; '' for nowhere")
	f.StringVar(&s.Accepted, "bridge-accept-fwmark", "", "let packets with this mark, MARK or MARK/MASK, into every network that is not internal, whatever is published")
	s.Bridge.flags(f)
	f.StringVar(&s.LogLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&s.LogFormat, "log-format", "text", "text or json")
	f.BoolVar(&s.teardown, "teardown", false, "remove everything a stopped daemon left in the kernel, then exit")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{flagError(err)} })
	c.CompletionOptions.DisableDefaultCmd = true
	return c
}

// complete fills in the settings file and the defaults, and checks the result.
func (s *settings) complete(c *cobra.Command) error {
	if s.config != "" {
		if err := s.readConfig(c.Flags()); err != nil {
			return err
		}
	}
	for _, dir := range []struct {
		name string
		path *string
	}{{"state-dir", &s.StateDir}, {"run-dir", &s.RunDir}} {
		if !filepath.IsAbs(*dir.path) {
			return fmt.Errorf("%s %q: want an absolute path", dir.name, *dir.path)
		}
		*dir.path = filepath.Clean(*dir.path)
	}
	if s.Socket == "" {
		s.Socket = filepath.Join(s.RunDir, "sealane.sock")
	}
	for _, socket := range []struct{ name, path string }{{"socket", s.Socket}, {"docker-plugin", s.Docker}} {
		if socket.path != "" && !filepath.IsAbs(socket.path) {
			return fmt.Errorf("%s %q: want an absolute path", socket.name, socket.path)
		}
	}
	if len(s.Socket) > maxSocket {
		return fmt.Errorf("socket %s: %d bytes, at most %d", s.Socket, len(s.Socket), maxSocket)
	}
	if s.Metrics != "" {
		if _, err := metrics.ParseAddr(s.Metrics); err != nil {
			return fmt.Errorf("metrics %w", err)
		}
	}
	var err error
	if s.accepted, err = driver.ParseMark(s.Accepted); err != nil {
		return fmt.Errorf("bridge-accept-fwmark %w", err)
	}
	if s.network, err = s.Bridge.network(); err != nil {
		return err
	}
	if !s.teardown { // which asks no other host
		if err := s.Cluster.check(); err != nil {
			return err
		}
	}
	if s.LogFormat != "text" && s.LogFormat != "json" {
		return fmt.Errorf("log-format %q: want text or json", s.LogFormat)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return fmt.Errorf("log-level %q: want debug, info, warn or error", s.LogLevel)
	}
	return nil
}

// notInFile are flags that are no settings.
var notInFile = []string{"config", "teardown", "help", "version"}

// readConfig reads the settings file, which has flags by their names. Those that
// were given stay.
func (s *settings) readConfig(flags *pflag.FlagSet) error {
	b, err := os.ReadFile(s.config)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	var file yaml.Node
	if err := yaml.Unmarshal(b, &file); err != nil {
		return fmt.Errorf("config %s: not YAML: %s", s.config, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(file.Content) == 0 {
		return nil // comments at most
	}
	if err := takeSettings(flags, file.Content[0]); err != nil {
		return fmt.Errorf("config %s: %w", s.config, err)
	}
	return nil
}

// takeSettings sets the flags that a mapping of YAML has, but for those that were given.
func takeSettings(flags *pflag.FlagSet, file *yaml.Node) error {
	if file.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want settings as log-level: warn", file.Line)
	}
	given := map[string]bool{}
	flags.Visit(func(f *pflag.Flag) { given[f.Name] = true })
	seen := map[string]bool{}
	for i := 0; i < len(file.Content); i += 2 {
		key, value := file.Content[i], file.Content[i+1]
		name := key.Value
		switch {
		case flags.Lookup(name) == nil || slices.Contains(notInFile, name):
			return fmt.Errorf("line %d: %s: no such setting (known: %s)", key.Line, name, strings.Join(inFile(flags), ", "))
		case seen[name]:
			return fmt.Errorf("line %d: %s: is there twice", key.Line, name)
		case value.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: %s: want one value", value.Line, name)
		}
		seen[name] = true
		if given[name] || value.Tag == "!!null" {
			continue
		}
		if err := flags.Set(name, value.Value); err != nil {
			return fmt.Errorf("line %d: %w", value.Line, flagError(err))
		}
	}
	return nil
}

// inFile lists the settings by name.
func inFile(flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(notInFile, f.Name) {
			names = append(names, f.Name)
		}
	})
	return names
}

// flagError says what a flag's value should be. Those that can be wrong for the parser
// are true or false.
func flagError(err error) error {
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("%s %q: want true or false", e.GetFlag().Name, e.GetValue())
	}
	return err
}

// logger returns the daemon's log, on stderr.
func (s *settings) logger() *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(s.LogLevel)) // checked by complete
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, opts)
	if s.LogFormat == "json" {
		h = slog.NewJSONHandler(os.Stderr, opts)
	}
	log := slog.New(h)
	if s.NodeName != "" {
		log = log.With("node", s.NodeName)
	}
	return log
}
