package netns

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// WatchMounts hints when something was mounted or unmounted in our mount
// namespace, which is how `ip netns` gives a namespace a path: no event of a
// directory tells of it. Hints are merged; the channel is closed when ctx is done.
func WatchMounts(ctx context.Context) (<-chan struct{}, error) {
	// A change is an exceptional condition of the file, told once to whoever polls
	// it (proc_pid_mountinfo(5)): an os.File would be polled by Go too.
	mounts, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mounts: watch: %w", err)
	}
	end, stop, err := os.Pipe()
	if err != nil {
		unix.Close(mounts)
		return nil, fmt.Errorf("mounts: watch: %w", err)
	}
	context.AfterFunc(ctx, func() { stop.Close() })
	hints := make(chan struct{}, 1)
	go func() {
		defer close(hints)
		defer unix.Close(mounts)
		defer end.Close()
		for awaitMount(mounts, int(end.Fd())) {
			select {
			case hints <- struct{}{}:
			default: // one waits already
			}
		}
	}()
	return hints, nil
}

// awaitMount waits for a change, and reports false when the pipe has ended.
func awaitMount(mounts, end int) bool {
	fds := []unix.PollFd{{Fd: int32(mounts), Events: unix.POLLPRI}, {Fd: int32(end), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case err != nil || fds[1].Revents != 0:
			return false
		default:
			return true
		}
	}
}
