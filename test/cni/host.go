package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/lab/cgroup"
)

// The names under which this program is started again.
const (
	roleHost   = "sealane-test-cni-host"   // process 1 of a host
	roleWorker = "sealane-test-cni-worker" // checks a plugin in it
)

// role plays the part that the program was started for, if it is one of these,
// and returns its exit status.
func role(args []string) (code int, ok bool) {
	var err error
	switch args[0] {
	case roleHost:
		code, err = hostMain(args[1])
	case roleWorker:
		err = workerMain(args[1])
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code, true
}

// check makes a host, checks the plugin in it and returns what came out.
func (t *target) check() (column, error) {
	col := column{Label: t.Label}
	group, err := cgroup.New(fmt.Sprintf("sealane-lab-%d-cni-", os.Getpid())) // internal/lab sweeps up after programs that were killed
	if err != nil {
		return col, fmt.Errorf("host: cgroup: %w", err)
	}
	defer func() {
		if err := group.Remove(); err != nil {
			fmt.Fprintln(os.Stderr, "cni:", err)
		}
	}()
	spec, err := json.Marshal(t)
	if err != nil {
		return col, err
	}
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{roleHost, string(spec)}, Stderr: os.Stderr, SysProcAttr: &unix.SysProcAttr{
		Cloneflags:   unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS,
		Unshareflags: unix.CLONE_NEWCGROUP, // once it is in its cgroup
		UseCgroupFD:  true, CgroupFD: group.FD(),
	}}
	alive, err := cmd.StdinPipe() // the host lives while this is open
	if err != nil {
		return col, err
	}
	defer alive.Close()
	out, err := cmd.Output()
	if err != nil {
		return col, fmt.Errorf("host: %w", err)
	}
	return col, json.Unmarshal(out, &col.Findings)
}

// hostMain is process 1 of a host. It furnishes the new namespaces, starts the
// worker and reaps orphans until the worker ends or stdin does; the kernel then
// kills all that is left in the host.
func hostMain(spec string) (int, error) {
	if err := furnish(); err != nil {
		return 1, fmt.Errorf("furnish: %w", err)
	}
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	worker, err := os.StartProcess("/proc/self/exe", []string{roleWorker, spec}, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr},
	})
	if err != nil {
		return 1, err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return 1, fmt.Errorf("wait: %w", err)
		case pid == worker.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// furnish gives a host its own view of the kernel and empty places for state.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount private: %w", err)
	}
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"cgroup2", "/sys/fs/cgroup"}, {"bpf", "/sys/fs/bpf"}, {"tmpfs", "/run"}, {"tmpfs", "/var/lib"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	if err := unix.Sethostname([]byte("cni")); err != nil {
		return err
	}
	// A new namespace inherits this from the machine, which may be a router.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0o644); err != nil {
		return err
	}
	if err := os.Mkdir("/run/netns", 0o755); err != nil {
		return err
	}
	return setUp("lo")
}

// setUp sets a link of this thread's network namespace up.
func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	return err
}

// workerMain checks the plugin in the host it is in, and prints the findings.
func workerMain(spec string) error {
	// A goroutine that ends locked takes its thread with it, except for the
	// first one, which would stay in a container. Keep it for ourselves.
	runtime.LockOSThread()
	var t target
	if err := json.Unmarshal([]byte(spec), &t); err != nil {
		return err
	}
	s, err := newStand(t)
	if err != nil {
		return err
	}
	findings, err := s.run(checks())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(findings)
}

// tail is the last part of a log.
func tail(path string) string {
	b, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
