package script

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealane/sealane/internal/lab"
)

// command is one of ours: its arguments, how many it needs at least, whether
// it may be negated, and what it does.
type command struct {
	usage string
	least int
	neg   bool
	do    func(s *stage, neg bool, args []string)
}

// commands returns our commands as testscript wants them.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	table := map[string]command{
		"require":  {"FEATURE…", 1, false, require},
		"host":     {"NAME…", 1, false, host},
		"switch":   {"NAME…", 1, false, networkSwitch},
		"plug":     {"HOST SWITCH IF [ADDR…]", 3, false, plug},
		"cut":      {"HOST IF", 2, false, func(s *stage, _ bool, a []string) { s.lab.Host(a[0]).Cut(a[1]) }},
		"mend":     {"HOST IF", 2, false, func(s *stage, _ bool, a []string) { s.lab.Host(a[0]).Mend(a[1]) }},
		"whole":    {"HOST IF", 2, false, func(s *stage, _ bool, a []string) { s.lab.Host(a[0]).Whole(a[1]) }},
		"route":    {"HOST DST GATEWAY", 3, false, func(s *stage, _ bool, a []string) { s.lab.Host(a[0]).Route(a[1], a[2]) }},
		"netns":    {"HOST NAME", 2, false, func(s *stage, _ bool, a []string) { s.lab.Host(a[0]).NetNS(a[1]) }},
		"on":       {"HOST CMD…", 2, true, on},
		"try":      {"HOST CMD…", 2, false, func(s *stage, _ bool, a []string) { s.run(a[0], a[1:]) }},
		"status":   {"N HOST CMD…", 3, false, status},
		"sealane":  {"ARG…", 0, true, func(s *stage, neg bool, a []string) { on(s, neg, prepend(a, "a", "sealane")) }},
		"bg":       {"HOST CMD…", 2, false, func(s *stage, _ bool, a []string) { s.start(a[0], a[1:]) }},
		"echo":     {"HOST FLAG…", 2, false, echo},
		"wait-for": {"HOST TIMEOUT CMD…", 3, false, waitFor},
		"daemon":   {"HOST [ARG…]", 1, false, func(s *stage, _ bool, a []string) { s.lab.Host(a[0]).Daemon(a[1:]...) }},
		"kill9":    {"HOST", 1, false, func(s *stage, _ bool, a []string) { s.lab.Host(a[0]).Kill9() }},
		"term":     {"HOST", 1, false, func(s *stage, _ bool, a []string) { s.lab.Host(a[0]).Stop() }},
		"restart":  {"HOST", 1, false, func(s *stage, _ bool, a []string) { s.lab.Host(a[0]).Restart() }},
		"log":      {"HOST [TEXT]", 1, false, daemonLog},
		"ovs":      {"HOST start|kill9|term [PROGRAM]", 2, false, openVSwitch},
		"fetch":    {"HOST URL", 2, true, client("get")},
		"udp":      {"HOST ADDR:PORT", 2, true, client("udp")},
		"ping":     {"HOST ADDR", 2, true, client("ping")},
		"reach":    {"HOST URL CLIENT [SERVER]", 3, false, reach},
		"state":    {"HOST FILE", 2, false, state},
		"heals":    {"HOST", 1, false, heals},
		"refuse":   {"STATUS HOST CMD…", 3, false, refuse},
	}
	out := map[string]func(*testscript.TestScript, bool, []string){}
	for name, c := range table {
		out[name] = c.bind(name)
	}
	return out
}

// bind checks the arguments before the command sees them.
func (c command) bind(name string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg && !c.neg {
			ts.Fatalf("unsupported: ! %s", name)
		}
		if len(args) < c.least {
			ts.Fatalf("usage: %s %s", name, c.usage)
		}
		s := ts.Value(key{}).(*stage)
		s.ts = ts
		if name != "refuse" {
			s.seen = nil
		}
		c.do(s, neg, args)
	}
}

func host(s *stage, _ bool, args []string) {
	for _, name := range args {
		s.lab.Host(name)
	}
}

func networkSwitch(s *stage, _ bool, args []string) {
	for _, name := range args {
		s.lab.Switch(name)
	}
}

func plug(s *stage, _ bool, args []string) {
	s.lab.Host(args[0]).Plug(s.lab.Switch(args[1]), args[2], args[3:]...)
}

func on(s *stage, neg bool, args []string) {
	code := s.run(args[0], args[1:])
	switch {
	case neg && code == 0:
		s.Fatalf("unexpected success")
	case !neg && code != 0:
		s.Fatalf("exit status %d", code)
	}
}

func status(s *stage, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		s.Fatalf("status: %v", err)
	}
	if code := s.run(args[1], args[2:]); code != want {
		s.Fatalf("exit status %d", code)
	}
}

// echoTimeout is how long lab-echo may take to listen on all its ports.
const echoTimeout = 20 * time.Second

func echo(s *stage, _ bool, args []string) {
	p := s.start(args[0], prepend(args[1:], "lab-echo", "serve"))
	ctx, cancel := context.WithTimeout(context.Background(), echoTimeout)
	defer cancel()
	if err := p.Await(ctx, func(line string) bool { return line == "ready" }); err != nil {
		s.Fatalf("echo: %v\n%s", err, p.Output())
	}
}

// waitFor leaves the output of the last attempt.
func waitFor(s *stage, _ bool, args []string) {
	timeout, err := time.ParseDuration(args[1])
	if err != nil {
		s.Fatalf("wait-for: %v", err)
	}
	end := time.Now().Add(timeout)
	for {
		r := s.result(args[0], args[2:])
		if r.Code == 0 || time.Now().After(end) {
			s.print(r)
			if r.Code != 0 {
				s.Fatalf("wait-for: exit status %d after %v", r.Code, timeout)
			}
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// logTimeout is how long a line may take to get into a log.
const logTimeout = 20 * time.Second

func daemonLog(s *stage, _ bool, args []string) {
	h := s.lab.Host(args[0])
	for end := time.Now().Add(logTimeout); len(args) > 1 && !strings.Contains(h.DaemonLog(), args[1]); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("log: no %q after %v:\n%s", args[1], logTimeout, h.DaemonLog())
		}
	}
	s.print(lab.Result{Stdout: h.DaemonLog()})
}

// answerTimeout is how long an answer may take on a busy machine.
const answerTimeout = "20s"

// client returns a command that runs lab-echo's client of that name. Silence
// is expected where it is negated, and costs its time-out.
func client(name string) func(*stage, bool, []string) {
	return func(s *stage, neg bool, args []string) {
		timeout := answerTimeout
		if neg {
			timeout = "700ms"
		}
		on(s, neg, append([]string{args[0], "lab-echo", name, "-timeout", timeout}, args[1:]...))
	}
}

func prepend(args []string, first ...string) []string { return append(first, args...) }

// run runs a command, hands its output to the script and returns its status.
func (s *stage) run(host string, args []string) int {
	r := s.result(host, args)
	s.print(r)
	return r.Code
}

func (s *stage) result(host string, args []string) lab.Result {
	host, args = place(host, args)
	r, err := s.lab.Host(host).RunCmd(s.command(args))
	if err != nil {
		s.Fatalf("%s: %s: %v", host, strings.Join(args, " "), err)
	}
	return r
}

func (s *stage) print(r lab.Result) {
	s.last = r
	_, _ = s.ts.Stdout().Write([]byte(r.Stdout))
	_, _ = s.ts.Stderr().Write([]byte(r.Stderr))
}

func (s *stage) start(host string, args []string) *lab.Process {
	host, args = place(host, args)
	p, err := s.lab.Host(host).StartCmd(s.command(args))
	if err != nil {
		s.Fatalf("%s: %s: %v", host, strings.Join(args, " "), err)
	}
	return p
}

// command is args with the script's directory and environment.
func (s *stage) command(args []string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = s.ts.MkAbs(".")
	cmd.Env = os.Environ()
	for _, name := range []string{"WORK", "HOME", "TMPDIR", "PATH"} {
		cmd.Env = append(cmd.Env, name+"="+s.ts.Getenv(name))
	}
	return cmd
}
