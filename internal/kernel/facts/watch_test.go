package facts

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestWatch changes a file in all the ways that programs do, several times each.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string) func() {
		return func() { ok(os.WriteFile(at(name), []byte("x"), 0o600)) }
	}
	replace := func(name string) func() {
		return func() { write(name + ".new")(); ok(os.Rename(at(name+".new"), at(name))) }
	}
	link := func(to, name string) func() {
		return func() {
			os.Remove(at(name + ".new"))
			ok(os.Symlink(to, at(name+".new")))
			ok(os.Rename(at(name+".new"), at(name)))
		}
	}
	mkdir := func(name string) func() { return func() { ok(os.Mkdir(at(name), 0o700)) } }
	mkdir("etc")()
	mkdir("run")()
	write("etc/resolv.conf")()

	changes := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- watch(ctx, func() { changes <- struct{}{} }, at("etc/resolv.conf"), at("run/systemd/resolve/resolv.conf"))
	}()
	for {
		write("etc/resolv.conf")() // until it is watched
		select {
		case <-changes:
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	quiet := func() {
		for {
			select {
			case <-changes:
			case <-time.After(50 * time.Millisecond):
				return
			}
		}
	}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"written", write("etc/resolv.conf")},
		{"replaced", replace("etc/resolv.conf")},
		{"replaced again", replace("etc/resolv.conf")},
		{"written after that", write("etc/resolv.conf")},
		{"a link to what is not there", link("../run/net/resolv.conf", "etc/resolv.conf")},
		{"the directory appears", mkdir("run/net")},
		{"the file appears", write("run/net/resolv.conf")},
		{"what it links to is replaced", replace("run/net/resolv.conf")},
		{"again", replace("run/net/resolv.conf")},
		{"and again", replace("run/net/resolv.conf")},
		{"and written", write("run/net/resolv.conf")},
		{"the link goes elsewhere", link(at("run/other.conf"), "etc/resolv.conf")},
		{"where the file appears", replace("run/other.conf")},
		{"and is a link itself", link("net/resolv.conf", "run/other.conf")},
		{"to what is replaced", replace("run/net/resolv.conf")},
		{"and again", replace("run/net/resolv.conf")},
		{"removed", func() { ok(os.Remove(at("etc/resolv.conf"))) }},
		{"a file again", write("etc/resolv.conf")},
		{"the other's directory appears", func() { mkdir("run/systemd")(); mkdir("run/systemd/resolve")() }},
		{"and the other", replace("run/systemd/resolve/resolv.conf")},
		{"and again", replace("run/systemd/resolve/resolv.conf")},
	} {
		quiet()
		step.do()
		select {
		case <-changes:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: not seen", step.what)
		}
	}
	cancel()
	ok(<-done)
}

// TestWatchCircle has links that lead nowhere.
func TestWatchCircle(t *testing.T) {
	a := filepath.Join(t.TempDir(), "a")
	if err := os.Symlink(a, a); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := watch(ctx, func() {}, a); err != nil {
		t.Error(err)
	}
}
