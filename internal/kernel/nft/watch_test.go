package nft

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
)

// quiet is longer than a watch waits before it speaks.
const quiet = 5*pause + patience

func said(t *testing.T, ch <-chan string) string {
	t.Helper()
	select {
	case s, ok := <-ch:
		if !ok {
			t.Fatal("the watch ended")
		}
		return s
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was said")
	}
	return ""
}

func silent(t *testing.T, ch <-chan string) {
	t.Helper()
	select {
	case s, ok := <-ch:
		t.Fatalf("said %q (%v)", s, ok)
	case <-time.After(quiet):
	}
}

func TestWatch(t *testing.T) {
	c := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ch, err := c.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, c, kerneltest.Adds(corpus()...)...)
	apply(t, c, kerneltest.Adds(many(20000)...)...) // more events than a receive buffer would hold
	silent(t, ch)

	run(t, "add table inet other; add set inet other s { type mark; }; add chain inet other c; add table ip nat; add chain ip nat c; add table bridge b")
	said(t, ch)
	run(t, "add element inet other s { 1, 2 }; add rule ip nat c counter; add chain bridge b c; add rule bridge b c drop; delete table bridge b")
	silent(t, ch)
	for _, line := range []string{"add rule inet other c drop", "flush chain inet other c", "delete chain inet other c", "delete table inet other"} {
		run(t, line)
		if s := said(t, ch); !strings.HasPrefix(s, "nft (process ") {
			t.Errorf("%s: said %q", line, s)
		}
	}

	run(t, "add rule inet sealane forward counter")
	if s := said(t, ch); !strings.HasPrefix(s, "nft (process ") {
		t.Errorf("said %q", s)
	}
	// A burst is one message.
	other, err := Open(-1)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range 5 {
		apply(t, other, kerneltest.Adds(chain("published", "drop"))...)
	}
	said(t, ch)
	silent(t, ch)

	run(t, "flush ruleset")
	said(t, ch)
	apply(t, c, kerneltest.Adds(corpus()...)...)
	silent(t, ch)

	cancel()
	for range ch {
	}
}

func TestWatchOverflow(t *testing.T) {
	c := open(t)
	w, err := c.listen(1)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(-1)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, other, kerneltest.Adds(append(corpus(), many(20000)...)...)...)
	go w.run()
	if s := said(t, w.out); !strings.HasPrefix(s, "nftables events were lost") {
		t.Errorf("said %q", s)
	}
	silent(t, w.out)
	apply(t, other, kerneltest.Dels(tableObj)...)
	said(t, w.out)
	if err := errors.Join(other.Close(), w.nl.Close()); err != nil {
		t.Fatal(err)
	}
	for range w.out {
	}
}

// TestOpen: a connection keeps to its namespace, wherever its user is.
func TestOpen(t *testing.T) {
	there := open(t)
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	open(t) // and now here
	c, err := Open(int(ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Close(); err != nil {
		t.Fatal(err)
	}
	ch, err := c.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	apply(t, c, kerneltest.Adds(corpus()...)...)
	holds(t, there, corpus()...)
	silent(t, ch)
	apply(t, there, kerneltest.Dels(tableObj)...)
	said(t, ch)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(1 << 20); err == nil {
		t.Error("opened in a descriptor that is none")
	}
}

// TestSideBySide: readers see each transaction as a whole, however many come.
func TestSideBySide(t *testing.T) {
	c := open(t)
	apply(t, c, kerneltest.Adds(append(corpus(), many(3000)...)...)...)
	n := len(corpus()) + 3000
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(done)
		pair := kerneltest.Adds(elem(bridges, "a", ""), elem(masq4, "10.0.0.0/24", ""))
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, ops := range [][]func() error{{
				func() error { return c.Apply(pair) },
				func() error { return c.Apply(kerneltest.Dels(pair[0].New, pair[1].New)) },
			}} {
				for _, op := range ops {
					if err := op(); err != nil {
						done <- err
						return
					}
				}
			}
		}
	}()
	for range 20 {
		got, err := c.Observe()
		if err != nil {
			t.Error(err)
			break
		}
		if len(got) != n && len(got) != n+2 {
			t.Errorf("%d objects, want %d or %d", len(got), n, n+2)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestUrgency: news of our own table do not wait as long as those of others'.
func TestUrgency(t *testing.T) {
	c := open(t)
	w, err := c.listen(receiveAll)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []struct {
		what string
		wait time.Duration
		want string
	}{{"theirs", patience, "theirs"}, {"more of theirs", patience, "theirs"}, {"ours", pause, "ours"}, {"theirs again", patience, "ours"}} {
		if err := w.note(n.what, n.wait); err != nil || w.pending != n.want {
			t.Errorf("%s: to be said is %q, %v", n.what, w.pending, err)
		}
	}
	go w.run()
	if s := said(t, w.out); s != "ours" {
		t.Errorf("said %q", s)
	}
	silent(t, w.out)
	if err := w.nl.Close(); err != nil {
		t.Fatal(err)
	}
	for range w.out {
	}
}

// TestWatchNotListening: what somebody else changes while a watch does not listen is said
// afterwards, and what comes then it hears.
func TestWatchNotListening(t *testing.T) {
	c := open(t)
	apply(t, c, kerneltest.Adds(corpus()...)...)
	ch, err := c.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nothing := func() ([]complaint, error) { return []complaint{{}}, nil }
	unheard := func(transact func() ([]complaint, error)) {
		t.Helper()
		c.writeMu.Lock()
		defer c.writeMu.Unlock()
		if _, err := c.unheard(transact); err != nil {
			t.Fatal(err)
		}
	}
	unheard(nothing)
	silent(t, ch)
	unheard(func() ([]complaint, error) {
		run(t, "add rule inet sealane forward counter")
		return nothing()
	})
	if s := said(t, ch); !strings.Contains(s, "not watched") {
		t.Errorf("said %q", s)
	}
	run(t, "add rule inet sealane forward counter")
	if s := said(t, ch); !strings.HasPrefix(s, "nft (process ") {
		t.Errorf("said %q", s)
	}
}
