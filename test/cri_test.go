package script

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestPods: pods have addresses, names, ports and rates, as long as they are there.
func TestPods(t *testing.T) {
	k := newKubelet(t, 1, map[string]string{"10-pods.conflist": pods})
	config := podConfig("web", published(8080, cri.Protocol_TCP), published(8080, cri.Protocol_UDP), published(0, cri.Protocol_TCP),
		&cri.PortMapping{ContainerPort: 80, HostPort: 8081, HostIp: "192.0.2.1"})
	config.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"}
	web, db := k.run(config), k.run(podConfig("db"))
	if got := k.addresses(web) + " " + k.addresses(db); got != "10.88.0.2,fd88::2 10.88.0.3,fd88::3" {
		t.Errorf("addresses: %s", got)
	}
	k.reach(from(k.far), "tcp://192.0.2.1:8080 192.0.2.2 web", "tcp://[2001:db8::1]:8080 2001:db8::2 web", "udp://192.0.2.1:8080 192.0.2.2 web",
		"tcp://192.0.2.1:8081 192.0.2.2 web", "tcp://[2001:db8::1]:8081 no")
	k.reach(from(k.a), "tcp://192.0.2.1:8080 192.0.2.1 web", "tcp://[2001:db8::1]:8080 2001:db8::1 web", "tcp://127.0.0.1:8080 10.88.0.1 web", "tcp://10.88.0.2:80 10.88.0.1 web")
	k.reach(k.in(db), "tcp://web:80 10.88.0.3 web", "udp://web.default:80 10.88.0.3 web", "tcp://192.0.2.1:8080 10.88.0.1 web", "tcp://192.0.2.2:80 no")
	k.reach(k.in(web), "tcp://db:80 10.88.0.2 db", "tcp://192.0.2.1:8080 10.88.0.1 web")
	if got := k.exec(db, "dns", "-type", "AAAA", "web.default"); !strings.Contains(got, "fd88::2") {
		t.Errorf("web.default: %s", got)
	}
	if got := k.a.Must("tc", "qdisc"); !strings.Contains(got, "rate 10Mbit") || !strings.Contains(got, "rate 20Mbit") {
		t.Errorf("rates: %s", got)
	}
	if got := k.a.Must("sealane", "diff"); got != "" {
		t.Errorf("not as intended: %s", got)
	}

	// A port that is taken is said to be, and the pod is none.
	if p, err := k.sandbox(podConfig("second", published(8080, cri.Protocol_TCP))); err == nil || !strings.Contains(err.Error(), "8080") {
		t.Errorf("port 8080 again: %s: %v", p.id, err)
	}
	if got := k.list(); len(got) != 2 {
		t.Errorf("pods: %v", got)
	}
	if err := k.stopPod(web.id); err != nil {
		t.Error(err)
	}
	k.reach(from(k.far), "tcp://192.0.2.1:8080 no", "udp://192.0.2.1:8080 no")
	k.run(podConfig("second", published(8080, cri.Protocol_TCP)))
	k.reach(from(k.far), "tcp://192.0.2.1:8080 192.0.2.2 second", "udp://192.0.2.1:8080 no")
	k.remove(k.list()...)
	k.empty()
}

// TestPodsOutliveDaemons: pods go on without the daemons, whichever is killed, and
// are the same when they are back. What Kubernetes wants while ours is away it
// gets afterwards.
func TestPodsOutliveDaemons(t *testing.T) {
	k := newKubelet(t, 1, map[string]string{"10-pods.conflist": pods})
	web, db := k.run(podConfig("web", published(8080, cri.Protocol_TCP))), k.run(podConfig("db"))
	ask := k.connection("192.0.2.1:8080")
	works := func() {
		k.Helper()
		ask()
		k.reach(from(k.far), "tcp://192.0.2.1:8080 192.0.2.2 web", "tcp://[2001:db8::1]:8080 2001:db8::2 web")
	}
	k.stop(syscall.SIGTERM)
	works()
	k.start()
	k.stop(syscall.SIGKILL)
	k.a.Kill9()
	works()
	k.start()
	k.reach(k.in(db), "tcp://10.88.0.2:80 10.88.0.3 web")

	_, err := k.sandbox(podConfig("third", published(8082, cri.Protocol_TCP)))
	for what, err := range map[string]error{"begins": err, "ends": k.stopPod(db.id)} {
		if err == nil || !strings.Contains(err.Error(), "no daemon at /run/sealane/sealane.sock") {
			t.Errorf("a pod %s: %v", what, err)
		}
	}
	works()
	k.a.Restart()
	works()
	if got := k.addresses(web); got != "10.88.0.2,fd88::2" {
		t.Errorf("addresses: %s", got)
	}
	k.remove(k.list()...)
	k.empty()
}

// TestPodsBeginWhileDaemonsDie: of pods that begin at once, while a daemon dies,
// each is there or can be begun again, and nothing is left of any.
func TestPodsBeginWhileDaemonsDie(t *testing.T) {
	k := newKubelet(t, 1, map[string]string{"10-pods.conflist": pods})
	for dies, end := range map[string]func(){
		"sealaned": func() { k.a.Kill9(); k.a.Restart() },
		"containerd": func() {
			k.stop(syscall.SIGKILL)
			// It cannot read the results that it was about to write.
			k.a.Must("bash", "-c", "mkdir -p /var/lib/cni; find /var/lib/cni -type f -empty -delete")
			k.start()
		},
	} {
		const count = 6
		config := func(i int) *cri.PodSandboxConfig {
			return podConfig(fmt.Sprint("p", i), published(8080+int32(i), cri.Protocol_TCP))
		}
		var all sync.WaitGroup
		var failed atomic.Int32
		before := *k // the connection to what dies
		for i := range count {
			all.Go(func() {
				if _, err := before.sandbox(config(i)); err != nil {
					failed.Add(1)
				}
			})
		}
		k.a.Must("bash", "-c", "until test $(ls /run/netns | wc -l) -gt 3; do sleep 0.005; done")
		end()
		all.Wait()
		t.Logf("%s dies: %d of %d failed", dies, failed.Load(), count)
		k.remove(k.list()...)
		var want []string
		for i := range count {
			k.run(config(i))
			want = append(want, fmt.Sprintf("tcp://192.0.2.1:%d 192.0.2.2 p%d", 8080+i, i))
		}
		k.reach(from(k.far), want...)
		k.remove(k.list()...)
		k.clean() // containerd forgets a namespace that it made just before it was killed
	}
}

// TestNetworksOfPods: pods are on as many lists of the directory as containerd is
// set to, all at once, and leave them so.
func TestNetworksOfPods(t *testing.T) {
	k := newKubelet(t, 2, nil)
	if k.networkReady() {
		t.Error("the network is ready without one")
	}
	k.write("/etc/cni/net.d/10-pods.conflist", pods)
	k.within("one list", func() error { return unless(k.networkReady(), "not ready") })
	k.write("/etc/cni/net.d/20-storage.conflist", storage())
	k.within("two lists", func() error {
		got, err := k.runtime.Status(k.Context(), &cri.StatusRequest{Verbose: true})
		return errors.Join(err, unless(strings.Contains(got.GetInfo()["cniconfig"], `"IFName":"eth1"`), "not read"))
	})
	web, db := k.run(podConfig("web", published(8080, cri.Protocol_TCP))), k.run(podConfig("db"))
	if got := k.addresses(web); got != "10.88.0.2,fd88::2" {
		t.Errorf("addresses: %s", got)
	}
	k.reach(from(k.far), "tcp://192.0.2.1:8080 192.0.2.2 web", "tcp://[2001:db8::1]:8080 2001:db8::2 web")
	k.reach(k.in(db), "tcp://10.88.0.2:80 10.88.0.3 web", "tcp://10.89.0.2:80 10.89.0.3 web", "tcp://[fd89::2]:80 fd89::3 web", "tcp://web.storage:80 10.89.0.3 web", "tcp://web.pods:80 10.88.0.3 web")
	k.remove(k.list()...)
	k.empty()
}

// TestServices: rules like kube-proxy's lead pods and the host to a pod. Hosts
// outside they do not, as with any port that is not published here.
func TestServices(t *testing.T) {
	k := newKubelet(t, 1, map[string]string{"10-pods.conflist": pods})
	web, db := k.run(podConfig("web")), k.run(podConfig("db"))
	k.a.Must("bash", "-c", `set -e
		ip route add default via 192.0.2.2
		iptables -t nat -N KUBE-SERVICES
		iptables -t nat -A PREROUTING -j KUBE-SERVICES
		iptables -t nat -A OUTPUT -j KUBE-SERVICES
		iptables -t nat -A KUBE-SERVICES -d 10.96.0.10 -p tcp --dport 80 -j DNAT --to-destination 10.88.0.2:80
		iptables -t nat -A KUBE-SERVICES -m addrtype --dst-type LOCAL -p tcp --dport 30080 -j DNAT --to-destination 10.88.0.2:80`)
	k.reach(k.in(db), "tcp://10.96.0.10:80 10.88.0.1 web", "tcp://192.0.2.1:30080 10.88.0.1 web")
	k.reach(k.in(web), "tcp://10.96.0.10:80 10.88.0.1 web")
	k.reach(from(k.a), "tcp://10.96.0.10:80 192.0.2.1 web", "tcp://192.0.2.1:30080 192.0.2.1 web")
	k.reach(from(k.far), "tcp://192.0.2.1:30080 no")
}

// TestListsChange: containerd takes a pod off the networks that its directory has
// then. What that leaves holds no port, and is said to be lost.
func TestListsChange(t *testing.T) {
	k := newKubelet(t, 1, map[string]string{"10-pods.conflist": pods, "20-storage.conflist": storage()})
	web := k.run(podConfig("web", published(8080, cri.Protocol_TCP)))
	k.a.Must("rm", "/etc/cni/net.d/10-pods.conflist")
	k.within("the other list", func() error {
		got, err := k.runtime.Status(k.Context(), &cri.StatusRequest{Verbose: true})
		return errors.Join(err, unless(!strings.Contains(got.GetInfo()["cniconfig"], `"Name":"pods"`), "not read"))
	})
	k.reach(from(k.far), "tcp://192.0.2.1:8080 192.0.2.2 web")
	db := k.run(podConfig("db"))
	if got := k.addresses(web) + " " + k.addresses(db); got != "10.88.0.2,fd88::2 10.89.0.2,fd89::2" {
		t.Errorf("addresses: %s", got)
	}
	k.remove(web.id)
	k.within("web is lost", func() error {
		got := k.a.Must("sealane", "ps", "-a", "--format", "{{.Name}} {{.Status.State}}")
		return unless(strings.Contains(got, web.id+" lost\n"), got)
	})
	k.run(podConfig("next", published(8080, cri.Protocol_TCP)))
	k.reach(from(k.far), "tcp://192.0.2.1:8080 192.0.2.2 next")
	k.a.Must("sealane", "rm", "cni:"+web.id)
	k.remove(k.list()...)
	k.empty()
}

// TestPodsAfterReboot: a host with the same disk, and else nothing of what was, has
// its pods begin anew, also before it has heard of the end of the old ones.
func TestPodsAfterReboot(t *testing.T) {
	k := newKubelet(t, 1, map[string]string{"10-pods.conflist": pods})
	config := podConfig("web", published(8080, cri.Protocol_TCP))
	old := []string{k.run(config).id, k.run(podConfig("db", published(8081, cri.Protocol_TCP))).id}
	k.reboot()
	config.Metadata.Attempt++
	web := k.run(config)
	k.reach(from(k.far), "tcp://192.0.2.1:8080 192.0.2.2 web", "tcp://[2001:db8::1]:8080 2001:db8::2 web", "tcp://192.0.2.1:8081 no")
	if got := k.exec(web, "dns", "web"); !strings.Contains(got, "10.88.0.4") || strings.Contains(got, "10.88.0.2") {
		t.Errorf("web is %s", got)
	}
	k.remove(old...)
	k.reach(from(k.far), "tcp://192.0.2.1:8080 192.0.2.2 web")
	k.remove(k.list()...)
	k.empty()
}
