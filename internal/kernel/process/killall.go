package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// How KillAll waits for the killed to be gone, and for their last children.
const (
	killRounds = 200
	killPause  = 10 * time.Millisecond
)

// KillAll kills every process whose network namespace has that inode and
// returns when none is left, an error after two seconds. A process is where
// its first thread is. Our own namespace is refused, and that of process 1.
func KillAll(netns uint64) error {
	if err := refuse(netns); err != nil {
		return err
	}
	for range killRounds {
		left, err := killOnce(namespaceName(netns))
		if err != nil {
			return fmt.Errorf("namespace %d: kill all: %w", netns, err)
		}
		if left == 0 {
			return nil
		}
		time.Sleep(killPause)
	}
	return fmt.Errorf("namespace %d: kill all: processes do not end", netns)
}

// refuse returns an error for a namespace that holds more than a sandbox. A
// process that we may not look into matches no namespace, and is left alone.
func refuse(netns uint64) error {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("namespace %d: kill all: %w", netns, err)
	}
	if own == namespaceName(netns) || inNamespace(1, namespaceName(netns)) {
		return fmt.Errorf("namespace %d: kill all: it is the host's", netns)
	}
	return nil
}

func namespaceName(inode uint64) string { return "net:[" + strconv.FormatUint(inode, 10) + "]" }

// killOnce kills what it finds and returns how many those were. A zombie has
// no namespace any more.
func killOnce(name string) (int, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return 0, err
	}
	defer proc.Close()
	entries, err := proc.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry)
		if err != nil || !inNamespace(pid, name) {
			continue
		}
		found++
		if err := killIn(pid, name); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return found, err
		}
	}
	return found, nil
}

func inNamespace(pid int, name string) bool {
	ns, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net")
	return err == nil && ns == name
}

// killIn kills pid if it is in the namespace still: looked at while a pidfd
// holds on to it, it cannot be another process.
func killIn(pid int, name string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return wrap(pid, "open", err)
	}
	defer unix.Close(fd)
	if !inNamespace(pid, name) {
		return nil
	}
	return wrap(pid, "kill", unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
}
