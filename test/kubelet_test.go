package script

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sealane/sealane/internal/lab"
)

// pods is the network of the tests, and as much of it as Kubernetes can use.
const pods = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "sealane-cni", "subnets": ["10.88.0.0/16", "fd88::/64"], "resolver": true,
	"capabilities": {"portMappings": true, "bandwidth": true, "dns": true}}]}`

// storage is a list for another network.
func storage() string {
	return strings.NewReplacer("pods", "storage", "10.88.", "10.89.", "fd88:", "fd89:").Replace(pods)
}

// criConfig sets containerd up for Kubernetes. The hosts of the lab have no
// controllers for what cgroups limit, and their root may not lower its chance
// to be killed when memory is short.
const criConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "lab.example/echo:1"
  disable_cgroup = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    max_conf_num = %d
`

// kubelet plays the kubelet's part, by the Container Runtime Interface.
//
//	far 192.0.2.2 ──── lan ──── a 192.0.2.1  sealaned, containerd
//	    2001:db8::2               2001:db8::1
type kubelet struct {
	*testing.T
	lab        *lab.Lab
	a, far     *lab.Host
	networks   int               // that a pod is on
	lists      map[string]string // of CNI's, by the file's name
	containerd *lab.Process
	conn       *grpc.ClientConn
	runtime    cri.RuntimeServiceClient
}

// newKubelet furnishes the hosts and starts both daemons. containerd puts pods on
// so many of the networks, which are lists by their file's name.
func newKubelet(t *testing.T, networks int, lists map[string]string) *kubelet {
	t.Helper()
	lab.Needs(t, "containerd", "ctr", "runc", "/usr/lib/cni/loopback")
	l := lab.New(t)
	k := &kubelet{T: t, lab: l, a: l.Host("a"), far: l.Host("far"), networks: networks, lists: lists}
	k.far.Plug(l.Switch("lan"), "eth0", "192.0.2.2/24", "2001:db8::2/64")
	k.boot()
	k.start()
	k.a.Must("ctr", "-n", "k8s.io", "image", "import", "--no-unpack", "/run/image/image.tar")
	// containerd's part for Kubernetes hears of it a moment later.
	k.within("image", func() error {
		got, err := cri.NewImageServiceClient(k.conn).ImageStatus(k.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: "lab.example/echo:1"}})
		return errors.Join(err, unless(got.GetImage() != nil, "not there"))
	})
	return k
}

// boot makes a host of a, with our daemon.
func (k *kubelet) boot() {
	k.Helper()
	k.a.Plug(k.lab.Switch("lan"), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	k.a.Daemon()
	k.a.Must("bash", "-c", furnish)
	k.write("/run/containerd.toml", fmt.Sprintf(criConfig, k.networks))
	for name, list := range k.lists {
		k.write("/etc/cni/net.d/"+name, list)
	}
}

// write makes a file of host a's at once, for those who watch its directory.
func (k *kubelet) write(path, text string) {
	k.Helper()
	k.a.Must("bash", "-c", `printf %s "$1" >"$0.new"; mv "$0.new" "$0"`, path, text)
}

// within repeats something until it succeeds.
func (k *kubelet) within(what string, do func() error) {
	k.Helper()
	err := do()
	for end := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(end); err = do() {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		k.Fatalf("%s: %v", what, err)
	}
}

// start starts containerd and waits until it has read what there was.
func (k *kubelet) start() {
	k.Helper()
	k.containerd = k.a.Start("containerd", "-l", "warn", "-c", "/run/containerd.toml")
	dial := func(ctx context.Context, _ string) (conn net.Conn, err error) {
		err = k.a.Do(func() error {
			conn, err = net.Dial("unix", "/run/containerd/containerd.sock")
			return err
		})
		return conn, err
	}
	again := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond}}
	var err error
	if k.conn, err = grpc.NewClient("passthrough:containerd", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial), grpc.WithConnectParams(again)); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { k.conn.Close() })
	k.runtime = cri.NewRuntimeServiceClient(k.conn)
	k.within("containerd", func() error {
		_, err := k.runtime.ListPodSandbox(k.Context(), &cri.ListPodSandboxRequest{})
		return err
	})
}

// stop ends containerd by a signal.
func (k *kubelet) stop(sig syscall.Signal) {
	k.Helper()
	k.containerd.Signal(sig)
	k.containerd.Wait()
	k.conn.Close()
}

// reboot makes a new host of a's disk.
func (k *kubelet) reboot() {
	k.Helper()
	old := k.a
	disk := func(h *lab.Host) string { return fmt.Sprintf("/proc/%d/root/var/lib/", h.Start("sleep", "1000").Pid()) }
	k.stop(syscall.SIGKILL)
	k.a.Kill9()
	k.a = k.lab.Host("a again")
	if out, err := exec.Command("cp", "-a", disk(old)+".", disk(k.a)).CombinedOutput(); err != nil {
		k.Fatalf("disk: %v: %s", err, out)
	}
	old.Cut("eth0")
	k.boot()
	k.far.Must("ip", "neigh", "flush", "dev", "eth0")
	k.start()
}

// pod is one, and its only container.
type pod struct {
	config        *cri.PodSandboxConfig
	id, container string
}

// podConfig is what Kubernetes says of a pod of the namespace default.
func podConfig(name string, ports ...*cri.PortMapping) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"},
		Hostname:     name,
		DnsConfig:    &cri.DNSConfig{Servers: []string{"127.0.0.11"}, Searches: []string{"default"}, Options: []string{"ndots:5"}},
		PortMappings: ports,
		Linux:        &cri.LinuxPodSandboxConfig{},
	}
}

// published is a port of the host's that leads to a pod's port 80.
func published(port int32, protocol cri.Protocol) *cri.PortMapping {
	return &cri.PortMapping{Protocol: protocol, ContainerPort: 80, HostPort: port}
}

// sandbox makes a pod without a container.
func (k *kubelet) sandbox(config *cri.PodSandboxConfig) (pod, error) {
	got, err := k.runtime.RunPodSandbox(k.Context(), &cri.RunPodSandboxRequest{Config: config})
	return pod{config: config, id: got.GetPodSandboxId()}, err
}

// run makes a pod with a container that answers on port 80, of TCP and UDP.
func (k *kubelet) run(config *cri.PodSandboxConfig) pod {
	k.Helper()
	p, err := k.sandbox(config)
	for err != nil && strings.Contains(err.Error(), "snapshots") && strings.Contains(err.Error(), "file exists") {
		// A directory that containerd made just before it was killed. With this
		// error it takes the directory away.
		p, err = k.sandbox(config)
	}
	if err != nil {
		k.Fatalf("pod %s: %v", config.Hostname, err)
	}
	made, err := k.runtime.CreateContainer(k.Context(), &cri.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main", Attempt: config.Metadata.Attempt}, Image: &cri.ImageSpec{Image: "lab.example/echo:1"},
		Command: []string{"/lab-echo"}, Args: []string{"serve", "-tcp", "80", "-udp", "80", "-name", config.Hostname}, Linux: &cri.LinuxContainerConfig{},
	}})
	if err == nil {
		p.container = made.ContainerId
		_, err = k.runtime.StartContainer(k.Context(), &cri.StartContainerRequest{ContainerId: p.container})
	}
	if err != nil {
		k.Fatalf("container of %s: %v", config.Hostname, err)
	}
	return p
}

// stopPod takes a pod off its networks.
func (k *kubelet) stopPod(id string) error {
	_, err := k.runtime.StopPodSandbox(k.Context(), &cri.StopPodSandboxRequest{PodSandboxId: id})
	return err
}

// remove stops pods, as often as it takes, and removes them.
func (k *kubelet) remove(ids ...string) {
	k.Helper()
	for _, id := range ids {
		k.within("stop", func() error { return k.stopPod(id) })
		k.within("remove", func() error {
			_, err := k.runtime.RemovePodSandbox(k.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: id})
			return err
		})
	}
}

// list returns the pods that containerd has, ready or not.
func (k *kubelet) list() (ids []string) {
	k.Helper()
	got, err := k.runtime.ListPodSandbox(k.Context(), &cri.ListPodSandboxRequest{})
	if err != nil {
		k.Fatal(err)
	}
	for _, p := range got.Items {
		ids = append(ids, p.Id)
	}
	return ids
}

// addresses are those that Kubernetes is told.
func (k *kubelet) addresses(p pod) string {
	k.Helper()
	got, err := k.runtime.PodSandboxStatus(k.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: p.id})
	if err != nil {
		k.Fatal(err)
	}
	all := []string{got.Status.Network.GetIp()}
	for _, a := range got.Status.Network.GetAdditionalIps() {
		all = append(all, a.Ip)
	}
	return strings.Join(all, ",")
}

// exec runs lab-echo in a pod.
func (k *kubelet) exec(p pod, args ...string) string {
	k.Helper()
	got, err := k.runtime.ExecSync(k.Context(), &cri.ExecSyncRequest{ContainerId: p.container, Cmd: append([]string{"/lab-echo"}, args...), Timeout: 20})
	if err != nil {
		k.Fatalf("in %s: %v", p.config.Hostname, err)
	}
	return string(got.Stdout) + string(got.Stderr)
}

// reach tries targets, each "TARGET ANSWER" as lab-echo probe prints it, until they all
// answer like that.
func (k *kubelet) reach(probe func(args ...string) string, want ...string) {
	k.Helper()
	args := []string{"probe"}
	for _, line := range want {
		args = append(args, strings.Fields(line)[0])
	}
	k.within("reach", func() error {
		if got := probe(args...); got != strings.Join(want, "\n")+"\n" {
			return fmt.Errorf("got\n%swant\n%s", got, strings.Join(want, "\n"))
		}
		return nil
	})
}

// connection connects host far with an address, and returns what asks there and
// has to be answered.
func (k *kubelet) connection(addr string) (ask func()) {
	k.Helper()
	const patience = 20 * time.Second
	var conn net.Conn
	k.within("connect", func() error {
		return k.far.Do(func() (err error) {
			conn, err = net.DialTimeout("tcp", addr, patience)
			return err
		})
	})
	k.Cleanup(func() { conn.Close() })
	answers := bufio.NewReader(conn)
	return func() {
		k.Helper()
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", addr)
		got, err := http.ReadResponse(answers, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, got.Body)
		}
		if err != nil {
			k.Fatalf("an open connection: %v", err)
		}
	}
}

// from has a host run lab-echo.
func from(h *lab.Host) func(...string) string {
	return func(args ...string) string { return h.Run("lab-echo", args...).Stdout }
}

// in has a pod run it.
func (k *kubelet) in(p pod) func(...string) string {
	return func(args ...string) string { return k.exec(p, args...) }
}

// empty wants a host without pods and without what was made for them.
func (k *kubelet) empty() {
	k.Helper()
	k.clean()
	if left := k.a.Must("ls", "/run/netns"); left != "" {
		k.Errorf("namespaces are left: %s", left)
	}
}

// clean wants nothing of ours for any pod.
func (k *kubelet) clean() {
	k.Helper()
	if got := k.list(); len(got) > 0 {
		k.Errorf("pods are left: %v", got)
	}
	k.within("pods are gone", func() error {
		left := k.a.Must("bash", "-c", `sealane ps -a -o json | grep -v '^\[\]$'; sealane diff
			ip -o link show group 24225 | grep -o 'sl[vi][^@:]*'; nft list ruleset | grep -w '80[0-9][0-9]'; true`)
		return unless(left == "", "left: "+left)
	})
}

// networkReady is what Kubernetes is told of the network.
func (k *kubelet) networkReady() bool {
	k.Helper()
	got, err := k.runtime.Status(k.Context(), &cri.StatusRequest{})
	if err != nil {
		k.Fatal(err)
	}
	return slices.ContainsFunc(got.Status.Conditions, func(c *cri.RuntimeCondition) bool { return c.Type == "NetworkReady" && c.Status })
}

// unless returns an error where something is not so.
func unless(so bool, text string) error {
	if so {
		return nil
	}
	return errors.New(text)
}
