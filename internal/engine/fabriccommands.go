package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tend runs commands until the network is gone and they have cleaned up.
func (x *extension) tend() {
	pause := commandAgain
	again := time.NewTimer(time.Hour)
	for {
		select {
		case <-x.ctx.Done():
			return
		case <-x.news:
		case <-again.C:
		}
		want := x.wanted()
		err := x.make(want)
		if x.ctx.Err() != nil || want == nil && x.rest() {
			return
		}
		x.note(err)
		if err == nil {
			pause = commandAgain
			continue
		}
		again.Reset(pause)
		pause = min(2*pause, commandLatest)
	}
}

// rest reports whether the network is still not wanted: what tends it ends then.
func (x *extension) rest() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trouble = nil
	if x.want == nil {
		x.running = false
	}
	return x.want == nil
}

// note keeps what is wrong for the status, and tells it once.
func (x *extension) note(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil && fmt.Sprint(err) != fmt.Sprint(x.trouble) {
		x.cfg.Log.Warn("fabric: command", "key", x.key, "err", err)
	}
	x.trouble = err
}

// make runs what is needed for what is wanted, as far as nothing else is wanted
// meanwhile. The error is the first; what is behind PostStartup waits for it, peers do
// not wait for each other.
func (x *extension) make(want *commanded) (failed error) {
	if want == nil || want.Commands != x.made.Commands {
		x.unmake()
	}
	if want == nil {
		return nil
	}
	if _, err := x.prepare(want.PreStartup); err != nil {
		return err
	}
	if x.post && (x.made.self != want.self || x.made.whole4 != want.whole4 || x.made.whole6 != want.whole6) {
		x.unmake() // what its variables say is another host
	}
	if !x.post {
		x.made = commanded{Commands: want.Commands, whole4: want.whole4, whole6: want.whole6, self: want.self, peers: map[string]reached{}}
		if _, err := x.run("PostStartupCommand", reached{}, want.PostStartup, want.env(), ""); err != nil {
			return err
		}
		x.post = true
	}
	for _, key := range slices.Sorted(maps.Keys(x.made.peers)) {
		if p, is := want.peers[key]; !is || !p.same(x.made.peers[key]) {
			x.remove(key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want.peers)) {
		if x.ctx.Err() != nil || x.wanted() != want {
			break
		}
		failed = cmp.Or(failed, x.add(key, want.peers[key]))
	}
	return failed
}

// add runs SubnetAdd for a peer, unless it was done. When it fails, what may be there is
// removed, and it is run once more: the one of an earlier daemon may be in the way.
func (x *extension) add(key string, p reached) error {
	have, is := x.made.peers[key]
	if is && !have.failed {
		return nil
	}
	run := func() error {
		_, err := x.run("SubnetAddCommand", p, x.made.SubnetAdd, p.env(), p.data)
		return err
	}
	err := run()
	if err != nil && x.made.SubnetRemove != "" && x.ctx.Err() == nil {
		_, _ = x.run("SubnetRemoveCommand", p, x.made.SubnetRemove, p.env(), p.data) // there may be nothing
		err = run()
	}
	p.failed = err != nil
	x.made.peers[key] = p
	return err
}

// remove runs SubnetRemove for a peer, once: whatever comes of it, nothing is known of
// that peer any more.
func (x *extension) remove(key string) {
	p := x.made.peers[key]
	delete(x.made.peers, key)
	if _, err := x.run("SubnetRemoveCommand", p, x.made.SubnetRemove, p.env(), p.data); err != nil && !p.failed {
		x.cfg.Log.Warn("fabric: command", "key", x.key, "err", err)
	}
}

// unmake runs SubnetRemove for all peers, then Shutdown.
func (x *extension) unmake() {
	if x.made.peers == nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(x.made.peers)) {
		x.remove(key)
	}
	if _, err := x.run("ShutdownCommand", reached{}, x.made.Shutdown, x.made.env(), ""); err != nil {
		x.cfg.Log.Warn("fabric: command", "key", x.key, "err", err)
	}
	x.made, x.post = commanded{}, false
	x.pre.Lock()
	x.command = "" // it begins anew
	x.pre.Unlock()
}

// run runs a command and returns what it printed. The error is a line that says which.
func (x *extension) run(name string, about reached, command string, env []string, stdin string) (string, error) {
	if about.subnet() != "" {
		name += " for " + about.subnet()
	}
	if command == "" {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(x.ctx, commandTime)
	defer cancel()
	ran, err := x.cfg.Cluster.Commands.Shell(ctx, command, env, stdin+"\n")
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%s: took longer than %v", name, commandTime)
	case err != nil:
		err = fmt.Errorf("%s: %w", name, err)
	case ran.Code != 0:
		err = fmt.Errorf("%s: exit status %d%s", name, ran.Code, lastLine(ran.Stderr))
	default:
		x.cfg.Log.Info("fabric: command run", "key", x.key, "command", name)
	}
	return strings.TrimSpace(string(ran.Stdout)), err
}

// lastLine is what a command complained of at last, as the end of a sentence.
func lastLine(stderr []byte) string {
	lines := bytes.Split(bytes.TrimSpace(stderr), []byte("\n"))
	last := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(lines[len(lines)-1]), "?"))
	if last == "" {
		return ""
	}
	return ": " + last[:min(len(last), 300)]
}
