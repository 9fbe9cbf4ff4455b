package runtime

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/model"
)

// envAgent makes the test binary an agent.
const envAgent = "SEALANE_RUNTIME_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(envAgent) != "" {
		os.Exit(agentMain())
	}
	lab.Main(m)
}

// agentMain does in a host what the engine does: it finds whom it was told of when
// there is a hint, and says what is new. It reads orders, a line each:
//
//	watch REF    also when it does not exist
//	forget REF
//	find REF     and say what it is, with its PID
//	named NAME
//	cpu          time it has used, and the hints
func agentMain() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a := agent{finder: New(Config{}), guests: map[string]model.Guest{}, said: map[string]string{}}
	hints := a.finder.Watch(ctx, a.interest)
	orders := make(chan string)
	go func() {
		defer close(orders)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			orders <- in.Text()
		}
	}()
	for {
		select {
		case g := <-hints:
			a.hints++
			a.look(ctx, g)
		case order, ok := <-orders:
			if !ok {
				return 0
			}
			a.obey(ctx, order)
		}
	}
}

type agent struct {
	finder *Finder
	said   map[string]string // of each guest
	hints  int

	mu     sync.Mutex             // protects the following
	guests map[string]model.Guest // by reference
}

func (a *agent) interest() (out []model.Guest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.guests {
		out = append(out, g)
	}
	return out
}

// look finds a guest that was hinted, and remembers what it is called for good, or
// that it is nobody any more.
func (a *agent) look(ctx context.Context, g model.Guest) {
	ref := ""
	a.mu.Lock()
	for r, known := range a.guests {
		if known == g {
			ref = r
		}
	}
	a.mu.Unlock()
	if ref == "" {
		return
	}
	c, err := a.finder.Find(ctx, g)
	now := fmt.Sprintf("%s %s %s %d %d", c.State, c.Guest.Name, c.Guest.ID, c.Inode, c.PID)
	if err != nil {
		now = "error " + err.Error()
	} else if c.Guest != g {
		a.mu.Lock()
		g.ID = c.Guest.ID
		a.guests[ref] = g
		a.mu.Unlock()
		a.finder.Refresh()
	}
	if a.said[ref] != now {
		a.said[ref] = now
		fmt.Println(ref, now)
	}
}

func (a *agent) obey(ctx context.Context, order string) {
	verb, ref, _ := strings.Cut(order, " ")
	g, _, err := model.ParseGuest(ref)
	switch verb {
	case "watch", "forget":
		g.Awaited = true
		a.mu.Lock()
		delete(a.guests, ref)
		delete(a.said, ref)
		if verb == "watch" {
			a.guests[ref] = g
		}
		a.mu.Unlock()
		a.finder.Refresh()
	case "find":
		var c Container
		if err == nil {
			c, err = a.finder.Find(ctx, g)
		}
		fmt.Println("found", ref, c.State, c.Guest.Name, c.Guest.ID, c.PID, c.NetNS, c.Inode, err)
	case "named":
		found, err := a.finder.Named(ctx, ref)
		fmt.Print("named ", ref)
		for _, c := range found {
			fmt.Print(" ", c.Guest, "=", c.State)
		}
		fmt.Println(" error", err)
	case "cpu":
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		fmt.Println("cpu", time.Duration(u.Utime.Nano()+u.Stime.Nano()).Microseconds(), a.hints)
	}
}

// remote is an agent in a host.
type remote struct {
	t    *testing.T
	host *lab.Host
	proc *lab.Process
	in   io.Writer
	seen map[string]int // bytes of the output that are told already, by what a line begins with
}

// observe starts an agent in a host, and has it watch the guests.
func observe(t *testing.T, h *lab.Host, refs ...string) *remote {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envAgent+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.StartCmd(cmd)
	if err != nil {
		t.Fatal(err)
	}
	r := &remote{t: t, host: h, proc: p, in: in, seen: map[string]int{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("agent:\n%s", p.Output())
		}
	})
	for _, ref := range refs {
		r.order("watch " + ref)
	}
	return r
}

func (r *remote) order(line string) {
	r.t.Helper()
	if _, err := fmt.Fprintln(r.in, line); err != nil {
		r.t.Fatal(err)
	}
}

// patience is how long something that takes milliseconds may take on a busy
// machine, and much less than a look without a hint would need.
const patience = 15 * time.Second

// await returns the rest of the next line that begins with a word (a reference,
// "found", "named", "cpu") and goes on with want.
func (r *remote) await(word, want string) string {
	r.t.Helper()
	line := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		text := r.proc.Output()
		for l := range strings.Lines(text[r.seen[word]:]) {
			rest, mine := strings.CutPrefix(l, word+" ")
			if !strings.HasSuffix(l, "\n") {
				break
			}
			r.seen[word] += len(l)
			if mine {
				line = strings.TrimSpace(rest)
			}
			if mine && strings.HasPrefix(line, want) {
				return line
			}
		}
	}
	r.t.Fatalf("%s: want %q, last %q", word, want, line)
	return ""
}

// find asks the agent, and returns what it says after the reference.
func (r *remote) find(ref string) string {
	r.t.Helper()
	r.order("find " + ref)
	return strings.TrimPrefix(r.await("found", ref+" "), ref+" ")
}

// seat is where an agent found a container.
type seat struct{ name, id, inode, pid string }

// running awaits that the guest runs and was not said to be where it was before.
func (r *remote) running(ref string, not seat) seat {
	r.t.Helper()
	for {
		f := strings.Fields(r.await(ref, "running "))
		if len(f) != 5 {
			r.t.Fatalf("%s: %q", ref, f)
		}
		if at := (seat{f[1], f[2], f[3], f[4]}); at != not {
			return at
		}
	}
}

// inodeOf returns the namespace of a process that a host sees.
func inodeOf(h *lab.Host, pid string) string {
	out := h.Must("readlink", "/proc/"+strings.TrimSpace(pid)+"/ns/net")
	return strings.Trim(strings.TrimSpace(out), "net:[]")
}
