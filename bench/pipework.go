package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// pipeworkRows measures `pipework br1 CONTAINER ADDRESS` as a command, against
// the steps that the script of that name takes by ip and nsenter, and how soon
// containers that restarted are connected again.
func pipeworkRows(b *bench) error {
	if err := os.Symlink(pluginName, filepath.Join(b.bin, pipeworkName)); err != nil && !os.IsExist(err) {
		return err
	}
	if err := commandRow(b, "nsenter", atLeast(10, times), func(netns string) string { return "nsenter --net=" + netns }); err != nil {
		return err
	}
	// The script's own way in: with a copy of the mount table and a /sys of its own.
	if err := commandRow(b, "ip netns exec", limit{}, func(netns string) string { return "ip netns exec " + filepath.Base(netns) }); err != nil {
		return err
	}
	return restartRows(b)
}

// pipeworkName is what the plugin is called when it is pipework.
const pipeworkName = "pipework"

// commandRow has both connect one new namespace after the other, into which the
// script's commands get in a way that has a name. The script finds a container's
// process by docker inspect, and announces the address by arping; both are left out,
// ours announces.
func commandRow(b *bench, way string, l limit, enter func(netns string) string) error {
	ours, err := b.newSealane()
	if err != nil {
		return err
	}
	defer ours.close()
	peer, err := newHost()
	if err != nil {
		return err
	}
	defer peer.close()
	n := b.times(41)
	a, err := ours.spaces("pipe", 2*n+2)
	if err != nil {
		return err
	}
	z, err := peer.spaces("pipe", 2*n+2)
	if err != nil {
		return err
	}
	o, err := b.contest(n,
		inTurn(ours.host, a, func(i int, path string) error {
			return execute(filepath.Join(b.bin, pipeworkName), "br1", "netns:"+path, nthGuest(i))
		}),
		inTurn(peer, z, func(i int, path string) error { return script("br1", i, path, nthGuest(i), enter(path)) }))
	if err != nil {
		return fmt.Errorf("%w\n%s", err, ours.log.Bytes())
	}
	b.table.judged("pipework br1 C A/n, the script's steps by ip and "+way+" / ours", o, millis, o.ratio(), l)
	return nil
}

// inTurn returns a run that does something with the next of some namespaces.
func inTurn(h *host, paths []string, do func(int, string) error) block {
	next := 0
	return func() (took float64, err error) {
		i := next
		next++
		err = h.do(func() (err error) {
			took, err = timed(func() error { return do(i, paths[i]) })
			return err
		})
		return took, err
	}
}

// nthGuest is the address of the nth container.
func nthGuest(i int) string { return fmt.Sprintf("192.168.%d.%d/16", i/250, i%250+1) }

// script takes the steps of pipework's HEAD for a Linux bridge, in its order.
func script(bridge string, i int, netns, address, enter string) error {
	near, far := fmt.Sprintf("veth1pl%d", i), fmt.Sprintf("veth1pg%d", i)
	if _, err := os.Stat("/sys/class/net/" + bridge + "/bridge"); err != nil {
		if err := steps("ip link add dev " + bridge + " type bridge"); err != nil {
			return err
		}
	}
	if execute("ip", "link", "show", near) == nil {
		return fmt.Errorf("%s: is there already", near)
	}
	return steps(
		"ip link set "+bridge+" up",
		"ip link show "+bridge, // its MTU
		"ip link add name "+near+" mtu 1500 type veth peer name "+far+" mtu 1500",
		"ip link set "+near+" master "+bridge,
		"ip link set "+near+" up",
		"ip link set "+far+" netns "+netns,
		enter+" ip link set "+far+" name eth1",
		enter+" ip -4 addr add "+address+" brd + dev eth1",
		enter+" ip -4 link set eth1 up",
	)
}

func steps(commands ...string) error {
	for _, c := range commands {
		if err := execute(strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}

func execute(argv ...string) error {
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// restarted is how many containers restart at once.
const restarted = 200

// restartRows measures how soon containers that all restart have their interfaces
// again, and what following them costs when nothing happens.
func restartRows(b *bench) error {
	s, err := b.newSealane()
	if err != nil {
		return err
	}
	defer s.close()
	paths, err := s.spaces("restart", restarted)
	if err != nil {
		return err
	}
	if _, err := s.attachAll(paths); err != nil {
		return err
	}
	again, err := b.alone(b.times(9), func() (float64, error) {
		if _, err := s.spaces("restart", restarted); err != nil {
			return 0, err
		}
		return timed(func() error { return s.connected(paths) })
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.log.Bytes())
	}
	b.table.absolute(fmt.Sprintf("%d containers restarted, all connected again", restarted), again, atMost(2, seconds))
	const idle = 20 * time.Second
	time.Sleep(5 * time.Second)
	before, err := s.busy()
	if err != nil {
		return err
	}
	time.Sleep(idle)
	after, err := s.busy()
	b.table.told(fmt.Sprintf("processor time of the daemon while %d containers only run, per second", restarted),
		outcome{ours: []float64{(after - before) / idle.Seconds()}}, millis, interval{})
	return err
}

// connected waits until each namespace has the interface.
func (s *sealane) connected(paths []string) error {
	deadline := time.Now().Add(30 * time.Second)
	for _, p := range paths {
		for {
			err := s.within(p, farCPU, func() error { _, err := ownAddress(); return err })
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: %w", p, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

// busy is the processor time that the daemon's threads have had, in seconds.
func (s *sealane) busy() (float64, error) {
	var sum float64
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for _, path := range tasks {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var ran float64 // ns, the first of three (Documentation/scheduler/sched-stats.rst)
		if _, err := fmt.Sscan(string(stat), &ran); err != nil {
			return 0, err
		}
		sum += ran / 1e9
	}
	return sum, nil
}
