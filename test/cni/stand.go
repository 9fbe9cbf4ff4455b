package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How a check can come out.
const (
	passed  = "pass"
	failed  = "fail"
	unasked = "n/a"
)

// finding is a row's outcome for one plugin. Seen says what was seen where it
// failed, why it was not asked, or what is worth a note where it passed.
type finding struct {
	ID, Outcome, Seen string
}

// check is an obligation and how to look whether it is kept.
type check struct {
	id      string
	section string // of the specification, or CONVENTIONS; - where it is silent
	word    string // must, should, convention, or sense
	says    string // one sentence about the plugin
	since   string // the first version of the specification with the command
	run     func(*trial) error
}

// What run returns besides nil: seen for a failure, aside for a pass with a
// note, inapplicable for n/a. Other errors are failures too: something on the
// way did not work.
type (
	seenError         string
	asideError        string
	inapplicableError string
)

func (e seenError) Error() string         { return string(e) }
func (e asideError) Error() string        { return string(e) }
func (e inapplicableError) Error() string { return string(e) }

func seen(format string, args ...any) error  { return seenError(fmt.Sprintf(format, args...)) }
func aside(format string, args ...any) error { return asideError(fmt.Sprintf(format, args...)) }
func inapplicable(format string, args ...any) error {
	return inapplicableError(fmt.Sprintf(format, args...))
}

// stand is a plugin in a host, ready to be checked.
type stand struct {
	target
	versions     []string       // released ones that the plugin announces, oldest first
	capabilities map[string]any // that the configuration declares
	setup        *exec.Cmd      // nil without -setup
	mounts, base []string       // what was mounted, and the devices, before anything was called
	subnets      int            // handed out

	mu    sync.Mutex // protects the following
	calls []outcome  // in the order in which they ended
}

// setupLog is where the output of -setup goes.
const setupLog = "/run/setup.log"

func newStand(t target) (*stand, error) {
	before, err := mounted()
	if err != nil {
		return nil, err
	}
	s := &stand{target: t, mounts: before}
	if err := s.start(); err != nil {
		return nil, err
	}
	if s.base, err = photo(); err != nil {
		return nil, err
	}
	o := s.exec(call{command: "VERSION", raw: []byte(`{"cniVersion":"1.0.0"}`)})
	var v announcement
	if err := one(o.stdout, &v); err != nil || o.code != 0 {
		return nil, fmt.Errorf("%s: VERSION: %v", t.Plugin, o)
	}
	for _, r := range released {
		if slices.Contains(v.SupportedVersions, r) {
			s.versions = append(s.versions, r)
		}
	}
	if len(s.versions) == 0 {
		return nil, fmt.Errorf("%s: VERSION: no released version of the specification: %v", t.Plugin, o)
	}
	var conf struct {
		Capabilities map[string]any `json:"capabilities"`
	}
	if err := json.Unmarshal([]byte(t.Config), &conf); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	s.capabilities = conf.Capabilities
	return s, nil
}

// announcement is what VERSION prints.
type announcement struct {
	CNIVersion        string   `json:"cniVersion"`
	SupportedVersions []string `json:"supportedVersions"`
}

// start starts -setup in a session of its own and waits for -ready.
func (s *stand) start() error {
	if s.Setup == "" {
		return nil
	}
	log, err := os.Create(setupLog)
	if err != nil {
		return err
	}
	defer log.Close()
	s.setup = exec.Command("sh", "-c", s.Setup)
	s.setup.Stdout, s.setup.Stderr, s.setup.SysProcAttr = log, log, &unix.SysProcAttr{Setsid: true}
	if err := s.setup.Start(); err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		err := exec.CommandContext(ctx, "sh", "-c", s.Ready).Run()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("setup: ready: %w\n%s", err, tail(setupLog))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// stop kills all processes of -setup.
func (s *stand) stop() error {
	list, err := processes()
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.session == s.setup.Process.Pid {
			err = errors.Join(err, ignore(unix.Kill(p.pid, unix.SIGKILL), unix.ESRCH))
		}
	}
	s.setup.Wait() // it was killed
	return err
}

// newest is the newest version that the plugin announces.
func (s *stand) newest() string { return s.versions[len(s.versions)-1] }

// run does the checks in turn.
func (s *stand) run(checks []check) ([]finding, error) {
	pattern, err := regexp.Compile(s.Pattern)
	if err != nil {
		return nil, err
	}
	var out []finding
	for _, c := range checks {
		if !pattern.MatchString(c.id) {
			continue
		}
		start := time.Now()
		f := s.try(c)
		if s.Verbose {
			fmt.Fprintf(os.Stderr, "%-4s %6.2fs %s %s\n", f.Outcome, time.Since(start).Seconds(), f.ID, f.Seen)
		}
		out = append(out, f)
	}
	return out, nil
}

func (s *stand) try(c check) finding {
	f := finding{ID: c.id, Outcome: passed}
	if c.since != "" && !atLeast(s.newest(), c.since) {
		f.Outcome, f.Seen = unasked, fmt.Sprintf("it announces versions up to %s", s.newest())
		return f
	}
	t := &trial{stand: s, id: c.id}
	err := c.run(t)
	t.clear()
	var note asideError
	var not inapplicableError
	switch {
	case err == nil:
	case errors.As(err, &note):
		f.Seen = string(note)
	case errors.As(err, &not):
		f.Outcome, f.Seen = unasked, string(not)
	default:
		f.Outcome, f.Seen = failed, err.Error()
	}
	f.Seen = steady(f.Seen)
	return f
}

// random are names that differ from one run to the next.
func random() []struct {
	what *regexp.Regexp
	name string
} {
	return []struct {
		what *regexp.Regexp
		name string
	}{
		{regexp.MustCompile(`\bveth[0-9a-f]{8}\b`), "veth…"},
		{regexp.MustCompile(`\bslv[0-9a-f]+\b`), "slv…"},
		{regexp.MustCompile(`\bslb[0-9a-f]+\b`), "slb…"},
		{regexp.MustCompile(`#[0-9]{6,}\b`), "#…"},
		{regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`), "…:…"},
		{regexp.MustCompile(`\b10\.77\.[0-9]+\.`), "10.77.…."},
		{regexp.MustCompile(`(requested IPs: 10\.77\.…\.)[0-9]+`), "${1}…"}, // one of two, as host-local's map has it
		{regexp.MustCompile(`/proc/[0-9]+/`), "/proc/PID/"},
		{regexp.MustCompile(`/tmp/sealane-lab-[^/]*/`), ""},
		{regexp.MustCompile(`\b[0-9a-f]{24,}\b`), "…"},
	}
}

// steady makes what was seen the same in every run, and short.
func steady(text string) string {
	for _, r := range random() {
		text = r.what.ReplaceAllString(text, r.name)
	}
	if cut := []rune(text); len(cut) > 300 {
		return string(cut[:300]) + "…"
	}
	return text
}
