package etcd_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/clustertest"
	"github.com/sealane/sealane/internal/cluster/etcd"
)

// program is an etcd of Debian's package etcd-server, in a process of its own.
type program struct {
	t    *testing.T
	url  string
	args []string
	cmd  *exec.Cmd
}

// newPrograms starts a cluster of so many members.
func newPrograms(t *testing.T, n int) []*program {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Fatalf("%v: apt-get install etcd-server", err)
	}
	var out []*program
	var members []string
	for i := range n {
		url, peer, name := newURL("http"), newURL("http"), fmt.Sprintf("m%d", i)
		members = append(members, name+"="+peer)
		out = append(out, &program{t: t, url: url, args: []string{
			"--name", name, "--data-dir", filepath.Join(t.TempDir(), "data"), "--logger", "zap", "--log-level", "error", "--heartbeat-interval", "50", "--election-timeout", "500",
			"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		}})
	}
	for _, p := range out {
		p.args = append(p.args, "--initial-cluster", strings.Join(members, ","))
		p.start()
		t.Cleanup(p.kill)
	}
	return out
}

func (p *program) start() {
	p.t.Helper()
	p.cmd = exec.Command("etcd", p.args...)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill is kill -9.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ready waits until a store answers.
func ready(t *testing.T, s cluster.Store) {
	t.Helper()
	var err error
	for range 10 {
		if _, err = s.List(t.Context(), "/"); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// TestDebian holds the store to the suite with Debian's etcd, whose restarts are by
// kill -9.
func TestDebian(t *testing.T) {
	t.Parallel()
	p := newPrograms(t, 1)[0]
	ready(t, dial(t, etcd.Config{Endpoints: []string{p.url}}))
	c := admin(t, p.url)
	clustertest.Test(t, func(t *testing.T) clustertest.Subject {
		w := newWire(t, p.url)
		return clustertest.Subject{
			Store: dial(t, etcd.Config{Endpoints: []string{w.url}}), Other: dial(t, etcd.Config{Endpoints: []string{p.url}}),
			Away:    func(away bool) { w.set(!away) },
			Compact: func() { compact(t, c) },
			Restart: func() { p.kill(); p.start() },
			Pass:    time.Sleep, TTL: 3 * time.Second,
		}
	})
}

// TestMemberThatHangs stops each member of three in turn: it accepts what is sent to
// it, and says nothing.
func TestMemberThatHangs(t *testing.T) {
	t.Parallel()
	all := newPrograms(t, 3)
	var endpoints []string
	for _, p := range all {
		endpoints = append(endpoints, p.url)
	}
	s := dial(t, etcd.Config{Endpoints: endpoints})
	ready(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan cluster.Update, 100)
	mirror := cluster.Follow(ctx, s, "/", slog.New(slog.DiscardHandler), func(u cluster.Update) { got <- u })
	defer func() { cancel(); <-mirror.Done() }()
	<-got
	for i, p := range all {
		p.signal(syscall.SIGSTOP)
		began := time.Now()
		writer := dial(t, etcd.Config{Endpoints: []string{all[(i+1)%3].url}})
		key, want := fmt.Sprintf("/%d", i), fmt.Sprint(time.Now())
		for {
			once := put(key, want, 0)
			once.If = []cluster.If{{Key: key}}
			if _, done, err := writer.Commit(t.Context(), once); done && err == nil {
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatal("two of three do not take a transaction")
			}
		}
		wrote := time.Since(began)
		// A transaction of unknown end may be done a second time, when its member goes on.
		late := time.After(time.Minute)
		for came := false; !came; {
			select {
			case u := <-got:
				came = slices.ContainsFunc(u.Changes, func(c cluster.Change) bool {
					return c.Key == key && string(c.Value) == want
				})
			case <-late:
				t.Fatalf("nothing of %s came in a minute; status %+v", key, mirror.Status())
			}
		}
		seen := time.Since(began)
		t.Logf("member %d hangs: written after %s, seen after %s", i, wrote.Round(time.Millisecond), seen.Round(time.Millisecond))
		// 5 s at most if the others answer, who may be at a leader's change until it is written.
		if seen-wrote > 20*time.Second {
			t.Errorf("to leave member %d took %s after the others had written", i, seen-wrote)
		}
		p.signal(syscall.SIGCONT)
	}
}

// TestRestored has a server go back to a copy of its data, and then to none, while a
// mirror follows it.
func TestRestored(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s := dial(t, etcd.Config{Endpoints: []string{m.url}})
	do := func(words ...string) {
		t.Helper()
		c := admin(t, m.url)
		for _, w := range words {
			k, v, _ := strings.Cut(w, "=")
			if _, err := c.Put(t.Context(), k, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	do("/a=1", "/b=1")
	ctx, cancel := context.WithCancel(t.Context())
	mirror := cluster.Follow(ctx, s, "/", slog.New(slog.DiscardHandler), func(cluster.Update) {})
	defer func() { cancel(); <-mirror.Done() }()
	until := func(held int, want map[string]string) {
		t.Helper()
		got := map[string]string{}
		for range 600 {
			clear(got)
			for _, e := range mirror.Entries() {
				got[e.Key] = string(e.Value)
			}
			if maps.Equal(got, want) && mirror.Status().Held == held {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("the mirror has %v, want %v, %d of them held; status %+v", got, want, held, mirror.Status())
	}
	until(0, map[string]string{"/a": "1", "/b": "1"})
	m.stop()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(m.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	m.start()
	do("/b=2", "/c=1")
	until(0, map[string]string{"/a": "1", "/b": "2", "/c": "1"})
	if r := mirror.Status().Restored; !r.IsZero() {
		t.Errorf("a restart is no restoration: %s", r)
	}
	m.stop()
	m.cfg.Dir = copied
	m.start()
	until(1, map[string]string{"/a": "1", "/b": "1", "/c": "1"})

	m.stop()
	m.cfg.Dir = t.TempDir()
	m.start()
	until(3, map[string]string{"/a": "1", "/b": "1", "/c": "1"})
	do("/a=3")
	until(2, map[string]string{"/a": "3", "/b": "1", "/c": "1"})
}
