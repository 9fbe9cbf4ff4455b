package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

func tidyChecks() []check {
	return []check{
		{"output.success", "ADD Success", "must", "stdout of every successful ADD was one JSON object and nothing else; what it logs goes to stderr", "", outputSuccess},
		{"output.silent", "CHECK, GC", "must", "stdout of every successful CHECK, GC and STATUS was empty, that of DEL empty or one JSON object", "", outputSilent},
		{"output.errors", "Errors", "should", "stdout of every call that failed was one error object with `code` and `msg`", "", outputErrors},
		{"output.error-version", "Error", "should", "the error object says the `cniVersion` of the configuration", "", outputErrorVersion},
		{"output.codes", "Error", "must", "the codes of all errors are ones that the specification has, or 100 and more", "", outputCodes},
		{"tidy.namespace", "-", "sense", "after DEL nothing holds the namespace: without its name it is gone", "", func(t *trial) error {
			return t.namespaceEnds(true)
		}},
		{"tidy.namespace-held", "-", "sense", "nor does anything hold it before DEL: a runtime that loses a container does not lose a namespace", "", func(t *trial) error {
			return t.namespaceEnds(false)
		}},
		{"tidy.processes", "-", "sense", "no process is left behind", "", func(t *trial) error { return t.quiet() }},
		{"tidy.devices", "DEL", "must", "after all these DELs the host has no device more than before, but bridges", "", func(t *trial) error {
			return same(t.base)
		}},
		{"tidy.mounts", "-", "sense", "nothing is mounted below /run or /var/lib that was not", "", tidyMounts},
	}
}

// spoilt says whether the plugin was not told the command.
func (c *call) spoilt() bool {
	_, set := c.env["CNI_COMMAND"]
	return set || slices.Contains(c.without, "CNI_COMMAND")
}

// every calls judge for each call so far but VERSION, those that were killed
// and those without a command, and returns the first complaint. A judge says
// whether the call concerned it.
func (t *trial) every(judge func(outcome) (concerned bool, complaint string)) error {
	asked := 0
	for _, o := range t.calls {
		if o.call.kill > 0 || o.call.command == "VERSION" || o.call.spoilt() {
			continue
		}
		concerned, complaint := judge(o)
		if complaint != "" {
			return seen("for example: %s", complaint)
		}
		if concerned {
			asked++
		}
	}
	if asked == 0 {
		return inapplicable("there was no such call")
	}
	return nil
}

func outputSuccess(t *trial) error {
	return t.every(func(o outcome) (bool, string) {
		if o.code != 0 || o.call.command != "ADD" {
			return false, ""
		}
		var object map[string]any
		if one(o.stdout, &object) != nil {
			return true, o.String()
		}
		return true, ""
	})
}

func outputSilent(t *trial) error {
	return t.every(func(o outcome) (bool, string) {
		if o.code != 0 || o.call.command == "ADD" {
			return false, ""
		}
		var object map[string]any
		if len(o.stdout) == 0 || o.call.command == "DEL" && one(o.stdout, &object) == nil {
			return true, ""
		}
		return true, o.call.command + ": " + o.String()
	})
}

func outputErrors(t *trial) error {
	return t.every(func(o outcome) (bool, string) {
		if o.code == 0 {
			return false, ""
		}
		if _, err := o.failure(); err != nil {
			return true, o.call.command + ": " + o.String()
		}
		return true, ""
	})
}

// outputErrorVersion has an error about the environment come in each version too.
func outputErrorVersion(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	for _, v := range t.versions {
		t.exec(call{command: "ADD", conf: n.conf(v), on: &space{"nobody", "/run/netns/nobody"}, ifname: "a/b"})
	}
	return t.every(func(o outcome) (bool, string) {
		f, err := o.failure()
		v, _ := o.call.conf["cniVersion"].(string)
		switch {
		case err != nil || o.call.raw != nil || !slices.Contains(t.versions, v):
			return false, ""
		case f.CNIVersion == nil:
			return true, "no `cniVersion`"
		case *f.CNIVersion != v:
			return true, fmt.Sprintf("%s with a configuration of %s", *f.CNIVersion, v)
		}
		return true, ""
	})
}

func outputCodes(t *trial) error {
	return t.every(func(o outcome) (bool, string) {
		f, err := o.failure()
		if err != nil {
			return false, ""
		}
		if *f.Code >= 100 || slices.Contains([]uint{1, 2, 3, 4, 5, 6, 7, 11, 50, 51}, *f.Code) {
			return true, ""
		}
		return true, o.String()
	})
}

func hostNamespace() (netns.NsHandle, error) { return netns.GetFromPath("/proc/1/ns/net") }

// namespaceEnds puts one end of a pair of devices into a container and waits
// for the kernel to take away the other one, which it does with the namespace.
func (t *trial) namespaceEnds(del bool) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	if err := t.canary(a.c); err != nil {
		return err
	}
	if del {
		if err := a.del(); err != nil {
			return err
		}
	}
	if err := a.c.end(); err != nil {
		return err
	}
	for deadline := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) {
		links, err := (*space)(nil).links()
		if err != nil {
			return err
		}
		if _, there := links["canary0"]; !there {
			return nil
		}
		if time.Now().After(deadline) {
			return seen("the namespace is still there %v after its name is gone", settle)
		}
	}
}

func (t *trial) canary(c *space) error {
	return c.handle(func(in *netlink.Handle) error {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "canary1"}, PeerName: "canary0"}
		if err := in.LinkAdd(pair); err != nil {
			return err
		}
		far, err := in.LinkByName("canary0")
		if err != nil {
			return err
		}
		host, err := hostNamespace()
		if err != nil {
			return err
		}
		defer host.Close()
		return in.LinkSetNsFd(far, int(host))
	})
}

// process is one of the host.
type process struct {
	pid, session int
	name         string
}

// processes returns those of the host, without zombies.
func processes() ([]process, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var out []process
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid pgrp session …, proc_pid_stat(5)
		begin, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
		f := strings.Fields(string(b[end+1:]))
		pid, err := strconv.Atoi(strings.TrimSpace(string(b[:begin])))
		if err != nil {
			return nil, err
		}
		session, err := strconv.Atoi(f[3])
		if err != nil {
			return nil, err
		}
		if f[0] != "Z" {
			out = append(out, process{pid, session, string(b[begin+1 : end])})
		}
	}
	return out, nil
}

// quiet waits until only process 1, this one and those of -setup are left.
func (t *trial) quiet() error {
	for deadline := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) {
		list, err := processes()
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(p process) bool {
			return p.pid == 1 || p.pid == os.Getpid() || t.setup != nil && p.session == t.setup.Process.Pid
		})
		if len(list) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return seen("%s is still running", list[0].name)
		}
	}
}

func tidyMounts(t *trial) error {
	if t.setup != nil {
		return inapplicable("its daemon may have mounts")
	}
	now, err := mounted()
	if err != nil {
		return err
	}
	if d := difference(t.mounts, now); d != "" {
		return seen("%s", d)
	}
	return nil
}

// mounted is what is mounted below the places for state.
func mounted() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		at := strings.Fields(line)[4]
		if strings.HasPrefix(at, "/run/") || strings.HasPrefix(at, "/var/lib/") {
			out = append(out, at)
		}
	}
	return out, nil
}
