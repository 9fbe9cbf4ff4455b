package main

import (
	"context"
	"fmt"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// asker sends requests, each on a connection of its own, and none twice.
type asker struct {
	url     string
	timeout time.Duration

	mu           sync.Mutex // protects the following
	sent, failed int
	answered     map[string]int // by the name of who did
}

// requests asks at a pace until SIGTERM, and says at once what has no answer. An answer
// that is slow to come does not hold up the next request.
func requests(args []string) error {
	f := flags("requests")
	every := f.Duration("every", 20*time.Millisecond, "")
	timeout := f.Duration("timeout", 5*time.Second, "")
	a := &asker{url: argument(f, args), timeout: *timeout, answered: map[string]int{}}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	pace := time.NewTicker(*every)
	defer pace.Stop()
	var all sync.WaitGroup
	for ctx.Err() == nil {
		all.Go(a.ask)
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
	all.Wait()
	for _, name := range slices.Sorted(maps.Keys(a.answered)) {
		fmt.Printf("answered %d %s\n", a.answered[name], name)
	}
	fmt.Printf("sent %d\nfailed %d\n", a.sent, a.failed)
	return nil
}

// ask sends one request and notes what became of it.
func (a *asker) ask() {
	began := time.Now()
	name, err := a.answer()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent++
	if err != nil {
		a.failed++
		fmt.Printf("failure %d %v: %v\n", began.UnixMilli(), time.Since(began).Round(time.Millisecond), err)
		return
	}
	if a.answered[name]++; a.answered[name] == 1 {
		fmt.Printf("first %d %s\n", began.UnixMilli(), name)
	}
}

// answer returns the name of who answers a request.
func (a *asker) answer() (string, error) {
	end := time.Now().Add(a.timeout)
	c, err := connect(a.url, a.timeout)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(end); err != nil {
		return "", err
	}
	said, err := c.ask()
	return nameIn(said), err
}

// nameIn is the name in what lab-echo serve says.
func nameIn(report string) string {
	for line := range strings.Lines(report) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "name "); ok {
			return name
		}
	}
	return ""
}
