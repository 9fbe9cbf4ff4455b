// Package dockerd is test-only: it runs the dockerd of Debian's package
// docker.io in a host made of namespaces, for tests of living with Docker and
// for benchmarks against it, and speaks its API.
//
// The host has network, mounts and processes of its own, a cgroup2 at
// /sys/fs/cgroup and empty /run and /var/lib, as those of package lab have.
// dockerd starts its containerd by itself; both, their containers and all
// they have stored end with the host. Nothing is left on the machine: what
// they write elsewhere, in /opt and /etc/docker, is led into the host.
package dockerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// launch furnishes the host and becomes dockerd. containerd makes directories
// in /opt, and dockerd a key in /etc/docker; it would also read there what the
// machine's own dockerd is set to.
const launch = `set -e
dir=/run/docker-setup
if ! test -e $dir; then
	mkdir -p $dir/etc $dir/work
	mount -t tmpfs tmpfs /opt
	mount -t overlay -o lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/work overlay /etc
	echo '{}' > $dir/daemon.json
fi
exec dockerd --config-file $dir/daemon.json --log-level warn "$@"`

// path is where Debian has dockerd and what it executes.
const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command returns the command that is dockerd in the host where it is started.
// The arguments are added to its command line, such as --iptables=false.
func Command(args ...string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", append([]string{"-c", launch, "dockerd"}, args...)...)
	cmd.Env = append(os.Environ(), path)
	return cmd
}

// readyTimeout bounds how long dockerd takes to start: a third of a second on
// a quiet machine, half a minute on an emulated processor.
const readyTimeout = 90 * time.Second

// Start starts dockerd by a function that starts a command in a host, and
// returns when it answers. It ends with the host.
func Start(ctx context.Context, start func(*exec.Cmd) error, args ...string) (*Daemon, error) {
	cmd := Command(args...)
	if err := start(cmd); err != nil {
		return nil, fmt.Errorf("dockerd: %w", err)
	}
	d := dial(cmd.Process.Pid)
	if err := d.await(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// await waits until dockerd answers or has ended.
func (d *Daemon) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := d.Call(ctx, "GET", "/_ping", nil, nil)
		if err == nil {
			return nil
		}
		// Where a process that has ended was is nowhere.
		if _, gone := os.Readlink(d.root); gone != nil {
			return errors.New("dockerd: start: ended before it answered")
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}
