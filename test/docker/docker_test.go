// Package docker holds the tests of Docker with networks of Sealane's: a real
// dockerd, a real sealaned, and Docker's own client, as a user has them.
//
//	b 192.0.2.2 ──── lan ──── a 192.0.2.1  sealaned, dockerd
//	  2001:db8::2               2001:db8::1
//
// Containers run lab-echo, which is their image's only file, and are asked from
// their own namespaces. protocol_test.go has no Docker: it speaks the plugin's
// protocol as no dockerd would.
package docker

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/dockerd"
)

// TestMain lets four tests run at once, however few processors there are: most of
// their time they wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	lab.Main(m, "sealane", "sealane-cni", "sealaned")
}

// world is host a and its neighbour.
type world struct {
	*testing.T
	lab  *lab.Lab
	a, b *lab.Host
	d    *dockerd.Daemon
	p    *lab.Process // dockerd
	args []string     // of dockerd
}

// newWorld returns the hosts without daemons. Port 8000 of b answers everybody.
func newWorld(t *testing.T, args ...string) *world {
	t.Helper()
	lab.Needs(t, "docker", "dockerd")
	t.Parallel()
	l := lab.New(t)
	w := &world{T: t, lab: l, a: l.Host("a"), b: l.Host("b"), args: args}
	w.a.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	w.b.Plug(l.Switch("lan"), "eth0", "192.0.2.2/24", "2001:db8::2/64")
	w.serve(w.b, "-tcp", "8000", "-udp", "8000", "-name", "b")
	return w
}

// both returns the hosts with both daemons, and the image.
func both(t *testing.T, args ...string) *world {
	t.Helper()
	w := newWorld(t, args...)
	w.a.Daemon()
	w.startDocker()
	w.image()
	return w
}

// sub runs a part of a test on the same hosts. What it leaves in Docker goes.
func (w *world) sub(name string, part func(w *world)) {
	w.Helper()
	w.Run(name, func(t *testing.T) {
		s := *w
		s.T = t
		defer s.clear()
		part(&s)
	})
}

// clear removes all containers and networks, of Docker and of Sealane.
func (w *world) clear() {
	w.Helper()
	w.sh(`c=$(docker ps -aq); if test -n "$c"; then docker rm -f $c; fi
		c=$(sealane ps -aq); if test -n "$c"; then sealane rm -f $c; fi
		docker network prune -f
		sealane network prune`)
}

func (w *world) serve(h *lab.Host, args ...string) *lab.Process {
	w.Helper()
	p := h.Start("lab-echo", append([]string{"serve"}, args...)...)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Await(ctx, func(line string) bool { return line == "ready" }); err != nil {
		w.Fatalf("lab-echo: %v\n%s", err, p.Output())
	}
	return p
}

// patience is how long anything may take on a busy machine that is not measured.
const patience = 20 * time.Second

// slower is how much longer everything may take where tests are short: in a guest
// whose processors are emulated.
const slower = 6

func (w *world) startDocker() {
	w.Helper()
	if err := w.launch(); err != nil {
		w.Fatal(err)
	}
}

// launch starts dockerd and waits until it answers.
func (w *world) launch() error {
	start := func(cmd *exec.Cmd) (err error) {
		w.p, err = w.a.StartCmd(cmd)
		return err
	}
	var err error
	w.d, err = dockerd.Start(context.Background(), start, w.args...)
	return err
}

func (w *world) image() {
	w.Helper()
	if err := w.d.ImportEcho(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// stopDocker ends dockerd by a signal and waits for it.
func (w *world) stopDocker(sig syscall.Signal) {
	w.Helper()
	w.p.Signal(sig)
	done := make(chan int, 1)
	go func() { done <- w.p.Wait() }()
	select {
	case <-done:
	case <-time.After(patience):
		w.Fatalf("dockerd does not end:\n%s", w.p.Output())
	}
	w.d.Close()
}

// environment keeps what the machine's user has set for docker out of the tests,
// and other clients than the one that is dockerd's age.
const environment = "export DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=/run/docker-client PATH=$" + lab.EnvBin + ":/usr/sbin:/usr/bin:/sbin:/bin\n"

// sh runs a script on host a.
func (w *world) sh(script string) string {
	w.Helper()
	return w.must(w.a, script)
}

// must is Host.Must for subtests: it ends the one that calls.
func (w *world) must(h *lab.Host, script string) string {
	w.Helper()
	r := h.Run("bash", "-c", environment+script)
	if r.Code != 0 {
		w.Fatalf("%s: %s: exit %d\n%s%s", h.Name, script, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// docker runs a command of Docker's client that has to succeed.
func (w *world) docker(line string) string {
	w.Helper()
	return strings.TrimSpace(w.sh("docker " + line))
}

// sealane does so with ours.
func (w *world) sealane(line string) string {
	w.Helper()
	return strings.TrimSpace(w.sh("sealane " + line))
}

// run starts a container that serves its port 8000, TCP and UDP, and knows its
// name.
func (w *world) run(name, flags string) {
	w.Helper()
	w.docker("run -d --name " + name + " " + flags + " echo /lab-echo serve -tcp 8000 -udp 8000 -name " + name)
}

// refused runs a command that has to fail with one sentence, which has all
// words, and returns what it wrote.
func (w *world) refused(command string, words ...string) string {
	w.Helper()
	r := w.a.Run("bash", "-c", environment+command)
	said := sentence(r.Stderr)
	if r.Code == 0 {
		w.Errorf("%s: succeeded\n%s", command, r.Stdout)
	}
	if strings.Contains(said, "\n") || len(said) > 500 {
		w.Errorf("%s: wrote more than a sentence:\n%s", command, r.Stderr)
	}
	for _, word := range words {
		if !strings.Contains(said, word) {
			w.Errorf("%s: wrote %q, want %q in it", command, said, word)
		}
	}
	return said
}

// sentence is what Docker's client writes, without what it adds to everything.
func sentence(stderr string) string {
	if strings.HasPrefix(stderr, "time=") { // its own log: of run, that it waits no longer
		_, stderr, _ = strings.Cut(stderr, "\n")
	}
	said, _, _ := strings.Cut(stderr, "\nRun 'docker")
	said, _, _ = strings.Cut(said, "\nSee 'docker")
	said, _, _ = strings.Cut(said, "\nexit status")
	said, _, _ = strings.Cut(said, "\ntime=") // that log once more, before or after
	return strings.TrimSpace(said)
}

// enter is the beginning of a command in a container's namespaces: its network
// and its files. With onlyNet it has the host's programs.
func (w *world) enter(container string, onlyNet bool) string {
	w.Helper()
	c, err := w.d.Inspect(w.Context(), container)
	if err != nil {
		w.Fatal(err)
	}
	if c.State.Pid == 0 {
		w.Fatalf("%s does not run: %s", container, w.docker("logs "+container))
	}
	pid := fmt.Sprint(c.State.Pid)
	if onlyNet {
		return "nsenter --net=/proc/" + pid + "/ns/net "
	}
	return "nsenter -t " + pid + " -n -m /"
}

// in runs one of the host's programs in a container's network.
func (w *world) in(container, command string) string {
	w.Helper()
	return w.sh(w.enter(container, true) + command)
}

// reach asks targets from a place, which is a, b, a container, or sealane:NAME.
// want has one line for each: the target, whom it sees and how it is called, as
// "tcp://two:8000 10.1.0.2 two"; or the target and "no". What is not so at once
// may take a while.
func (w *world) reach(from string, want ...string) {
	w.Helper()
	var targets []string
	for _, line := range want {
		targets = append(targets, strings.Fields(line)[0])
	}
	on, prefix := w.a, ""
	switch name, ours := strings.CutPrefix(from, "sealane:"); {
	case ours:
		prefix = "sealane exec " + name + " -- "
	case from == "a":
	case from == "b":
		on = w.b
	default:
		prefix = w.enter(from, false)
	}
	command := prefix + "lab-echo probe -timeout 700ms '" + strings.Join(targets, "' '") + "'"
	var got string
	wanted := strings.Join(want, "\n")
	w.within(patience, func() error {
		if got = strings.TrimSpace(w.must(on, command)); got != wanted {
			return fmt.Errorf("from %s:\n%s\nwant\n%s", from, got, wanted)
		}
		return nil
	})
}

// within waits until something is so.
func (w *world) within(limit time.Duration, check func() error) {
	w.Helper()
	var err error
	if testing.Short() {
		limit *= slower
	}
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	w.Errorf("%v\nnot within %v", err, limit)
}

// shows waits until a command's output has all words, and none of those that
// begin with !.
func (w *world) shows(limit time.Duration, command string, words ...string) {
	w.Helper()
	w.within(limit, func() error {
		out := w.sh(command)
		for _, word := range words {
			if not, no := strings.CutPrefix(word, "!"); no && strings.Contains(out, not) {
				return fmt.Errorf("%s: %s\nhas %q", command, out, not)
			} else if !no && !strings.Contains(out, word) {
				return fmt.Errorf("%s: %s\nlacks %q", command, out, word)
			}
		}
		return nil
	})
}

// named is how soon Docker's names have to be ours, on a busy machine.
const named = patience

// state is what look sees once each container has its name: Docker, if it runs, is
// asked for that after it has started one.
func (w *world) state() []string {
	w.Helper()
	if w.d != nil {
		w.shows(named, "sealane ps -a --format '{{.Name}}'", "!docker-")
	}
	return w.look()
}

// look is all that Sealane has, by intent and in the kernel, as sorted lines
// without what passes: counters, carriers, times of resting addresses, and the route of
// IPv6 that Docker's bridge has from its second start on.
func (w *world) look() []string {
	w.Helper()
	out := w.sh(`sealane network ls --format '{{.ID}} {{.Name}} {{range .Subnets}}{{.Prefix}} {{.Gateway}} in use {{.Usage.InUse}}, {{end}}'
		sealane ps -a --format '{{.Name}} {{json .Endpoints}} {{json .Ports}}'
		ip -o link show group 24225 | sed 's/^[0-9]*: //; s/ <.*//'
		ip -o addr | sed 's/^[0-9]*: //' | grep -v fe80
		(ip route; ip -6 route) | sed 's/ linkdown//' | grep -v -e fe80 -e 'docker0 metric'
		nft list tables | grep ' sealane$' | while read -r t; do nft list $t; done |
			sed 's/counter packets [0-9]* bytes [0-9]*/counter/; s/ expires [0-9a-z]*//; s/elements = {//' | tr -d '}' | tr , '\n'`)
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, strings.TrimSpace(line))
	}
	slices.Sort(lines)
	return lines
}

// unchanged compares the state with what it was, soon.
func (w *world) unchanged(before []string, after string) {
	w.Helper()
	w.within(patience, func() error {
		now := w.look()
		if slices.Equal(now, before) {
			return nil
		}
		return fmt.Errorf("after %s there is\n%s\nand is no more\n%s", after, without(now, before), without(before, now))
	})
}

// without returns those of lines that are not in others, as text.
func without(lines, others []string) string {
	left := map[string]int{}
	for _, line := range others {
		left[line]++
	}
	var out []string
	for _, line := range lines {
		if left[line]--; left[line] < 0 {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// settling is how long repairs may take on a busy machine: less than until the regular
// pass, which would find what nobody noticed.
const settling = 10 * time.Second

// asIntended checks that the kernel is as it should be.
func (w *world) asIntended() {
	w.Helper()
	w.shows(settling, "sealane diff 2>&1 | sed 's/^/op: /'", "!op: ")
}
