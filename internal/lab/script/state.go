package script

import (
	"os"
	"strings"
	"time"
)

// stateScript prints what a host's kernel holds that a network product could
// change: devices, addresses, routes, rules, settings, mounts, files, and the
// insides of named namespaces. Left out is what comes and goes with a
// carrier, as the link-local addresses that the kernel makes of hardware
// addresses a moment after it, and devices that are on their way out (group
// 24226), with their settings, which outlive them by a moment.
const stateScript = `
look() {
	ip -o link | sed 's/ state [A-Z]*//; s/NO-CARRIER,//; s/,LOWER_UP//'
	ip -o addr | grep -v ' fe80:[0-9a-f:]*ff:fe[0-9a-f:]*/64 scope link' | sed 's/ tentative//'
	ip -4 route show table all; ip -6 route show table all | grep -v -e fe80: -e '^multicast'; ip -4 rule; ip -6 rule
	nft list ruleset
}
look | grep -v 'group 24226' | sed 's/ linkdown//'
devices=$(ip -o link | grep -v 'group 24226' | sed 's/^[0-9]*: //; s/[:@].*//' | tr '.\n' '/|')
sysctl -a 2>/dev/null | grep -E "^net\.(ipv4\.ip_forward|ipv[46]\.conf\.(${devices}all|default)\..*|bridge\..*) "
cut -d' ' -f1-3 /proc/mounts | grep -E ' /(run|var/lib|sys)'
find /run /var/lib/sealane -xdev 2>/dev/null | sort
for ns in /run/netns/* /run/sealane/netns/*; do
	test -e $ns && echo $ns && nsenter --net=$ns bash -c "$(declare -f look); look" | sed 's/ linkdown//'
done
true`

// intentScript prints what the daemon on a host knows and finds wrong. How many
// addresses rest changes by itself.
const intentScript = `
sealane network ls -o json | grep -v '"resting"'; sealane ps -a -o json; sealane diff
true`

// state writes a host's state to a file of the script's directory.
func state(s *stage, _ bool, args []string) {
	if err := os.WriteFile(s.ts.MkAbs(args[1]), []byte(s.output(args[0], stateScript)), 0o644); err != nil {
		s.Fatalf("state: %v", err)
	}
}

func (s *stage) output(host, script string) string {
	return s.result(host, []string{"bash", "-c", script}).Stdout
}

// A repair may take a second, and what a busy machine adds: that many looks, of
// which an idle one has more in healTimeout.
const (
	healTimeout = 3 * time.Second
	healLooks   = 60
)

// heals waits until a host is as intended again.
func heals(s *stage, _ bool, args []string) {
	start := time.Now()
	for looks := 1; ; looks++ {
		r := s.result(args[0], []string{"sealane", "diff"})
		if r.Code == 0 && r.Stdout == "" {
			return
		}
		if took := time.Since(start); took > healTimeout && looks > healLooks {
			s.Fatalf("not as intended after %v:\n%s%s", took, r.Stdout, r.Stderr)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// refuse runs a command that has to fail with one line, a status, and without
// a trace.
func refuse(s *stage, _ bool, args []string) {
	everything := func() string { return s.output(args[1], stateScript+intentScript) }
	before := s.seen[args[1]]
	if before == "" {
		before = everything()
	}
	status(s, false, args)
	r := s.last
	if strings.Count(r.Stderr, "\n") != 1 || r.Stdout != "" {
		s.Fatalf("want one line on stderr and nothing else")
	}
	after := everything()
	if after != before {
		s.Fatalf("it left traces:\n%s", difference(before, after))
	}
	s.seen = map[string]string{args[1]: after}
}

// difference lists the lines that only one of two texts has.
func difference(before, after string) string {
	var b strings.Builder
	only := func(sign, a, other string) {
		has := map[string]bool{}
		for line := range strings.Lines(other) {
			has[line] = true
		}
		for line := range strings.Lines(a) {
			if !has[line] {
				b.WriteString(sign + line)
			}
		}
	}
	only("-", before, after)
	only("+", after, before)
	return b.String()
}

// reach fetches from lab-echo and compares the client it saw.
func reach(s *stage, _ bool, args []string) {
	cmd := []string{"lab-echo", "get", "-timeout", answerTimeout, args[1]}
	if addr, ok := strings.CutPrefix(args[1], "udp://"); ok {
		cmd = []string{"lab-echo", "udp", "-timeout", answerTimeout, addr}
	}
	r := s.result(args[0], cmd)
	s.print(r)
	if r.Code != 0 {
		s.Fatalf("no answer")
	}
	if !strings.HasPrefix(r.Stdout, "client "+args[2]+"\n") {
		s.Fatalf("it sees another client than %s", args[2])
	}
	if len(args) > 3 && !strings.Contains(r.Stdout, "\nname "+args[3]+"\n") {
		s.Fatalf("another server than %s answers", args[3])
	}
}

// place says where a command for HOST or HOST/SANDBOX runs, and as what.
func place(host string, args []string) (string, []string) {
	name, sandbox, inside := strings.Cut(host, "/")
	if !inside {
		return host, args
	}
	return name, append([]string{"sealane", "exec", sandbox, "--"}, args...)
}
