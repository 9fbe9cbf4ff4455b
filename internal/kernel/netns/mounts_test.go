package netns

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWatchMounts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hints, err := WatchMounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	await := func(what string) (open bool) {
		t.Helper()
		select {
		case _, open = <-hints:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no hint", what)
		}
		return open
	}
	at := t.TempDir()
	for range 3 {
		if err := unix.Mount("x", at, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		await("mount")
		if err := unix.Unmount(at, 0); err != nil {
			t.Fatal(err)
		}
		await("unmount")
	}
	cancel()
	for await("end") {
	}
}
