package script

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// runtimeHost is a host with a container runtime's part played by the test.
type runtimeHost struct {
	*lab.Host
	t *testing.T
}

// plugin executes the plugin for interface eth0 of a container, whose namespace
// bears its name.
func (h runtimeHost) plugin(command, container, config string) lab.Result {
	h.t.Helper()
	cmd := exec.Command("sealane-cni")
	cmd.Stdin = strings.NewReader(config)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+container, "CNI_NETNS=/run/netns/"+container, "CNI_IFNAME=eth0", "CNI_PATH=/usr/lib/cni")
	r, err := h.RunCmd(cmd)
	if err != nil {
		h.t.Errorf("%s %s: %v", command, container, err)
	}
	return r
}

// atOnce calls do for each container, and for none before all are ready.
func atOnce(containers int, do func(container string)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range containers {
		wg.Go(func() {
			<-begin
			do(fmt.Sprintf("c%d", i))
		})
	}
	close(begin)
	wg.Wait()
}

// TestContainersWhileTheDaemonDies: 200 containers come at once, and go at once, while
// the daemon is killed in the middle of each. A runtime that is told to try again later
// does so for what it removes, and then nothing is left.
func TestContainersWhileTheDaemonDies(t *testing.T) {
	const containers, config = 200, `{"cniVersion":"1.1.0","name":"app","type":"sealane-cni","subnet":"10.1.0.0/16"}`
	h := runtimeHost{lab.New(t).Host("a"), t}
	h.Daemon()
	h.Must("bash", "-c", fmt.Sprintf("for i in $(seq 0 %d); do echo netns add c$i; done | ip -batch -", containers-1))
	for _, command := range []string{"ADD", "DEL"} { // the network is there
		if r := h.plugin(command, "c0", config); r.Code != 0 {
			t.Fatalf("%s: %s", command, r.Stdout)
		}
	}
	before := h.Must("nft", "list", "ruleset")

	var done, failed, killed atomic.Int32
	killAfter := func(count int32) {
		if done.Add(1) == count {
			killed.Add(1)
			h.Kill9()
			time.Sleep(100 * time.Millisecond)
			h.Restart()
		}
	}
	published := func(container string) string {
		port := 10000
		fmt.Sscanf(container, "c%d", &port)
		return strings.TrimSuffix(config, "}") + fmt.Sprintf(`,"runtimeConfig":{"portMappings":[{"hostPort":%d,"containerPort":80,"protocol":"tcp"}]}}`, 10000+port)
	}
	atOnce(containers, func(container string) {
		r := h.plugin("ADD", container, published(container))
		if code := errorCode(t, r); code != 0 && code != 11 {
			t.Errorf("ADD %s: %s", container, r.Stdout)
		} else if code != 0 {
			failed.Add(1)
		}
		killAfter(containers / 3)
	})
	t.Logf("%d of %d ADDs met a dead daemon", failed.Load(), containers)
	done.Store(0)
	atOnce(containers, func(container string) {
		r := h.plugin("DEL", container, config)
		for ; errorCode(t, r) == 11; r = h.plugin("DEL", container, config) {
			time.Sleep(20 * time.Millisecond)
		}
		if r.Code != 0 {
			t.Errorf("DEL %s: %s", container, r.Stdout)
		}
		killAfter(containers / 2)
	})
	if killed.Load() != 2 {
		t.Errorf("the daemon was killed %d times", killed.Load())
	}
	for what, command := range map[string]string{
		"sandboxes": "sealane ps -a -o json | grep -v '^\\[\\]$'; true", "devices": "ip -o link show group 24225 | grep -o 'slv[^@:]*'; true",
		"drift": "sealane diff", "what is in the namespaces": "for i in $(seq 0 199); do ip -n c$i -o link; done | grep eth0; true",
	} {
		left := "?"
		for end := time.Now().Add(30 * time.Second); left != "" && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			left = h.Must("bash", "-c", command)
		}
		if left != "" {
			t.Errorf("%s are left:\n%s", what, left)
		}
	}
	if after := h.Must("nft", "list", "ruleset"); after != before {
		t.Errorf("the firewall was\n%s\nand is\n%s", before, after)
	}
}

// errorCode is the code of a plugin's error object; 0 without one.
func errorCode(t *testing.T, r lab.Result) int {
	if r.Code == 0 {
		return 0
	}
	var answer struct{ Code int }
	if err := json.Unmarshal([]byte(r.Stdout), &answer); err != nil || answer.Code == 0 {
		t.Errorf("exit status %d without an error object: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	return answer.Code
}

// cnitool is the directory of that program.
func cnitool(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "cnitool"), "github.com/containernetworking/cni/cnitool").CombinedOutput(); err != nil {
		t.Fatalf("cnitool: %v\n%s", err, out)
	}
	return bin
}

// TestChainOfPlugins has the reference plugins work after ours, as the tool of
// the specification's authors executes them.
//
//	c1 ── app 10.1.0.0/24 fd01::/64 ── a 192.0.2.1 ── lan ── 192.0.2.2 b
func TestChainOfPlugins(t *testing.T) {
	bin := cnitool(t)
	l := lab.New(t)
	h, b := runtimeHost{l.Host("a"), t}, l.Host("b")
	h.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	b.Plug(l.Switch("lan"), "eth0", "192.0.2.2/24", "2001:db8::2/64")
	h.Daemon()
	c1, c2 := h.NetNS("c1"), h.NetNS("c2")
	// Version 1.1.1 of portmap, Debian's, looks for the IPv4 rules among those of IPv6 when
	// it checks: it is left out there.
	tool := func(command, dir, netns string) (string, int) {
		r := h.Run("env", "PATH="+bin+":"+os.Getenv("PATH"), "CNI_PATH="+os.Getenv(lab.EnvBin)+":/usr/lib/cni", "NETCONFPATH="+dir,
			`CAP_ARGS={"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`, "cnitool", command, "chain", netns)
		return r.Stdout + r.Stderr, r.Code
	}
	h.Must("bash", "-c", `mkdir /run/conf /run/checked; cat >/run/conf/10-chain.conflist <<'END'
		{"cniVersion": "1.0.0", "name": "chain", "plugins": [
			{"type": "sealane-cni", "subnets": ["10.1.0.0/24", "fd01::/64"], "capabilities": {"portMappings": true}},
			{"type": "tuning", "sysctl": {"net.core.somaxconn": "321"}, "mac": "02:00:5e:10:00:05", "mtu": 1400},
			{"type": "bandwidth", "ingressRate": 80000000, "ingressBurst": 8000000, "egressRate": 80000000, "egressBurst": 8000000},
			{"type": "portmap", "capabilities": {"portMappings": true}}]}
END
		sed '/portmap/d; s/10:00:05/10:00:06/; s/8000000},/8000000}]}/; s/, "capabilities": [^}]*}//' /run/conf/10-chain.conflist >/run/checked/10-chain.conflist`)
	out, code := tool("add", "/run/conf", c1)
	if code != 0 || !strings.Contains(out, `"address": "10.1.0.2/24"`) || !strings.Contains(out, `"mac": "02:00:5e:10:00:05"`) || !strings.Contains(out, `"name": "bwp`) {
		t.Fatalf("add: exit %d\n%s", code, out)
	}
	if got := h.Must("ip", "netns", "exec", "c1", "sysctl", "-n", "net.core.somaxconn"); got != "321\n" {
		t.Errorf("tuning: somaxconn %s", got)
	}
	if got := h.Must("bash", "-c", "tc qdisc show | grep -c tbf"); got != "2\n" {
		t.Errorf("bandwidth: %s shapers", got)
	}
	if got := h.Must("bash", "-c", "iptables-save -t nat; ip6tables-save -t nat"); !strings.Contains(got, "10.1.0.2:80") || !strings.Contains(got, "[fd01::2]:80") {
		t.Errorf("portmap: %s", got)
	}
	h.Start("ip", "netns", "exec", "c1", "lab-echo", "serve", "-tcp", "80", "-name", "c1")
	for _, url := range []string{"http://192.0.2.1:8080/", "http://[2001:db8::1]:8080/"} {
		for _, from := range []*lab.Host{h.Host, b} {
			got := ""
			for end := time.Now().Add(30 * time.Second); !strings.Contains(got, "name c1") && time.Now().Before(end); {
				got = from.Run("lab-echo", "get", "-timeout", "2s", url).Stdout
			}
			if !strings.Contains(got, "name c1") {
				t.Errorf("%s from %s: no answer", url, from.Name)
			}
		}
	}
	h.Kill9()
	h.Restart()
	for _, command := range []string{"add", "check", "check", "del"} { // the first at once
		if out, code := tool(command, "/run/checked", c2); code != 0 {
			t.Errorf("%s: exit %d\n%s", command, code, out)
		}
	}
	if got := h.Must("bash", "-c", "ip -n c1 link show eth0; sealane inspect cni:$(sealane ps --format '{{.Name}}')"); !strings.Contains(got, "mtu 1400") || strings.Count(got, "02:00:5e:10:00:05") != 2 {
		t.Errorf("tuning: mac and mtu:\n%s", got)
	}
	h.Must("ip", "netns", "exec", "c1", "lab-echo", "ping", "10.1.0.1")
	if out := h.Must("sealane", "diff"); out != "" {
		t.Errorf("the others' settings are drift to us:\n%s", out)
	}
	for range 2 {
		if out, code := tool("del", "/run/conf", c1); code != 0 {
			t.Errorf("del: exit %d\n%s", code, out)
		}
	}
	if out := h.Must("sealane", "ps", "-a", "-o", "json"); out != "[]\n" {
		t.Errorf("left: %s", out)
	}
}
