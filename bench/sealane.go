package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/api"
)

// build compiles what is measured, statically as it ships.
func build(dir string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "./cmd/...", "./internal/lab/echo", "golang.zx2c4.com/wireguard")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var err error
	if cmd.Dir, err = moduleRoot(); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

func moduleRoot() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("module root: %w", err)
	}
	return strings.TrimSpace(string(root)), nil
}

// network is the one that all endpoints of ours are on.
const network = "bench"

// sealane is a host with our daemon and a network.
type sealane struct {
	*host
	cmd    *exec.Cmd
	log    bytes.Buffer // what the daemon said
	client *api.Client
}

// newSealane starts a host with a daemon and a network without endpoints, and
// without br_netfilter: Sealane does not need it.
func (b *bench) newSealane() (*sealane, error) {
	h, err := newHost()
	if err != nil {
		return nil, err
	}
	s := newDaemon(h)
	err = s.filterBridged(false)
	if err == nil {
		err = s.start(b)
	}
	if err == nil {
		_, err = s.client.CreateNetwork(context.Background(), api.NetworkSpec{Name: network, Subnets: []api.SubnetSpec{{Prefix: "10.77.0.0/16"}}})
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("daemon: %w\n%s", err, s.log.Bytes())
	}
	return s, nil
}

// newDaemon is a host with a daemon that is not started.
func newDaemon(h *host) *sealane {
	return &sealane{host: h, client: api.Dial(h.path(api.DefaultSocket))}
}

// start starts the daemon and returns when it answers.
func (s *sealane) start(b *bench, args ...string) error {
	s.cmd = exec.Command(filepath.Join(b.bin, "sealaned"), args...)
	if b.disk != "" {
		state, err := os.MkdirTemp(b.disk, "state")
		if err != nil {
			return err
		}
		s.cmd.Args = append(s.cmd.Args, "--state-dir", state)
	}
	return s.launch()
}

// restart kills the daemon and starts it again, as it was started.
func (s *sealane) restart() error {
	old := s.cmd
	s.stop()
	s.cmd = exec.Command(old.Path, old.Args[1:]...)
	return s.launch()
}

// launch starts the daemon's process and returns when it answers.
func (s *sealane) launch() error {
	s.cmd.Stderr, s.cmd.SysProcAttr = &s.log, s.attr()
	if err := s.do(s.cmd.Start); err != nil {
		return err
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := s.client.Version(context.Background())
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// close ends the daemon and its host.
func (s *sealane) close() {
	s.stop()
	s.host.close()
}

// stop ends the daemon. A host does not end before the programs that we started
// there.
func (s *sealane) stop() {
	s.client.Close()
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		_ = s.cmd.Wait() // it was killed
	}
}

// attach connects a namespace to the network and returns the sandbox's ID.
func (s *sealane) attach(netns string) (string, error) {
	c, err := s.client.Connect(context.Background(), network, api.Connect{Sandbox: "netns:" + netns})
	if err != nil {
		return "", fmt.Errorf("attach %s: %w\n%s", netns, err, s.log.Bytes())
	}
	return c.Sandbox, nil
}

// attachAll connects many.
func (s *sealane) attachAll(netns []string) (ids []string, err error) {
	for _, ns := range netns {
		id, err := s.attach(ns)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (s *sealane) detach(netns string) error {
	if err := s.client.Disconnect(context.Background(), network, api.Disconnect{Sandbox: "netns:" + netns}); err != nil {
		return fmt.Errorf("detach %s: %w", netns, err)
	}
	return nil
}

// populate makes and connects n namespaces that stay.
func (s *sealane) populate(n int) ([]string, error) {
	paths, err := s.spaces("stay", n)
	if err != nil {
		return nil, err
	}
	return s.attachAll(paths)
}

// networks makes networks.
func (s *sealane) networks(names ...string) error {
	for i, name := range names {
		spec := api.NetworkSpec{Name: name, Subnets: []api.SubnetSpec{{Prefix: nthSubnet(i).String()}}}
		if _, err := s.client.CreateNetwork(context.Background(), spec); err != nil {
			return err
		}
	}
	return nil
}

// memory returns the daemon's resident memory in bytes: VmRSS, or the most it had so
// far, VmHWM.
func (s *sealane) memory(which string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, which+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("daemon: no %s in its status", which)
}

// timed returns how many seconds fn took.
func timed(fn func() error) (float64, error) {
	start := time.Now()
	err := fn()
	return time.Since(start).Seconds(), err
}
