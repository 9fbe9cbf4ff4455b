package guest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	labcontainerd "github.com/sealane/sealane/internal/lab/containerd"
	labpodman "github.com/sealane/sealane/internal/lab/podman"
)

// keeper is a runtime, by what its user types for a container called web, which
// serves port 8000 and has no network. It has lab-echo as its only file.
type keeper struct {
	ref      string // of the container
	programs []string
	furnish  string // the host, for the runtime
	create   string // and start
	stop     string
	start    string
	restart  string
	remove   string
}

const serve = "/lab-echo serve -tcp 8000 -name web"

// root makes a root file system at /run/root.
const root = "set -- /run/root\n" + lab.Root

// podman is Podman with files of its own.
func podman() keeper {
	const run = labpodman.Command + " "
	return keeper{"podman:web", strings.Fields(labpodman.Programs), labpodman.Furnish,
		run + "run -d --network none --name web echo " + serve,
		run + "stop -t 0 web",
		run + "start web",
		run + "restart -t 0 web",
		run + "rm -f -t 0 web",
	}
}

// containerd is one without Kubernetes' part. Its own command has no restart.
func containerd() keeper {
	const (
		stop  = "ctr task kill -s SIGKILL web; until ctr task rm web 2>/dev/null; do sleep 0.01; done"
		start = "ctr task start -d web"
	)
	return keeper{"containerd:web", []string{"containerd", "ctr", "runc"}, root + `
mount -t tmpfs opt /opt
` + labcontainerd.Configure + labcontainerd.Command + " >/dev/null 2>&1 &\n" + labcontainerd.Ready,
		"ctr run -d --cpu-shares 0 --rootfs /run/root web " + serve, // the hosts of the lab have no shares of a processor
		stop, start, stop + "; " + start, stop + "; ctr container rm web",
	}
}

// lxc has a NIC of the container's own on a bridge of the host's.
func lxc() keeper {
	const (
		stop  = "lxc-stop -n web -k"
		start = "lxc-start -n web -d"
	)
	return keeper{"lxc:web", []string{"lxc-start", "lxc-stop", "lxc-destroy"}, root + `
ip link add lxcbr0 type bridge
ip link set lxcbr0 up
mkdir -p /var/lib/lxc/web
cat >/var/lib/lxc/web/config <<'END'
lxc.rootfs.path = dir:/run/root
lxc.uts.name = web
lxc.net.0.type = veth
lxc.net.0.link = lxcbr0
lxc.net.0.name = eth0
lxc.net.0.flags = up
lxc.hook.version = 1
lxc.hook.pre-mount = /bin/sleep 0.3
lxc.init.cmd = ` + serve + `
lxc.apparmor.profile = unconfined
END`, start, stop, start, stop + "; " + start, stop + "; lxc-destroy -n web"}
}

// machine is systemd-nspawn. Without systemd there is no machined: the file that
// it would write of the machine is written here.
func machine() keeper {
	const (
		start = `setsid systemd-nspawn -q --register=no --keep-unit --private-network -M web -D /var/lib/machines/web ` + serve + ` </dev/null >/run/nspawn.log 2>&1 &
until leader=$(pgrep -xf '` + serve + `'); do sleep 0.01; done
printf 'NAME=web\nLEADER=%s\nCLASS=container\n' $leader >/run/systemd/machines/.#web1
mv /run/systemd/machines/.#web1 /run/systemd/machines/web`
		stop = `kill -9 $(sed -n s/LEADER=//p /run/systemd/machines/web); rm /run/systemd/machines/web; while pgrep -x systemd-nspawn; do sleep 0.01; done`
	)
	return keeper{"machine:web", []string{"systemd-nspawn", "pgrep"}, root + `
mkdir -p /run/systemd/machines /var/lib/machines
mv /run/root /var/lib/machines/web`,
		start, stop, start, stop + "\n" + start, stop + "; rm -r /var/lib/machines/web",
	}
}

// TestFollow has each runtime start, stop and remove a container that is connected.
func TestFollow(t *testing.T) {
	for name, k := range map[string]keeper{"podman": podman(), "containerd": containerd(), "lxc": lxc(), "machine": machine()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k.follow(t)
		})
	}
}

// inn is a host with a runtime, and its neighbour.
//
//	far 192.0.2.2 ──── lan ──── a 192.0.2.1:8090 ──── app 10.50.0.0/24 ──── web 10.50.0.7:8000
type inn struct {
	*testing.T
	keeper
	a, far *lab.Host
}

// inn returns a host with the runtime and no container.
func (k keeper) inn(t *testing.T) *inn {
	t.Helper()
	lab.Needs(t, k.programs...)
	l := lab.New(t)
	in := &inn{t, k, l.Host("a"), l.Host("far")}
	in.a.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24")
	in.far.Plug(l.Switch("lan"), "eth0", "192.0.2.2/24")
	in.a.Daemon()
	in.sh(k.furnish)
	return in
}

func (k keeper) follow(t *testing.T) {
	in := k.inn(t)
	in.sh("sealane network create app --subnet 10.50.0.0/24")
	in.sh(k.create)
	in.sh("sealane network connect --ip 10.50.0.7 -p 8090:8000 app " + k.ref)
	in.back("connected")
	was, inside := in.intent(), in.inside()
	if !strings.Contains(inside, "10.50.0.7/24") || !strings.Contains(inside, "02:42:0a:32:00:07") {
		t.Errorf("inside is\n%s", inside)
	}
	again := func(what string) {
		t.Helper()
		in.back(what)
		if now := in.inside(); now != inside {
			t.Errorf("%s: inside is\n%s\nand was\n%s", what, now, inside)
		}
		if now := in.intent(); now != was {
			t.Errorf("%s: it has\n%s\nand had\n%s", what, now, was)
		}
	}

	in.sh(k.restart)
	again("restart")

	in.sh(k.stop)
	in.away()
	in.sh(k.start)
	again("stop and start")

	in.a.Kill9()
	in.sh(k.stop)
	in.sh(k.start)
	in.a.Restart()
	again("restart without a daemon")

	in.sh(k.stop)
	in.a.Kill9()
	in.a.Restart()
	in.away()
	in.sh(k.start)
	again("daemon's restart without the container")

	in.sh(k.remove)
	in.within(patience, func() string { return in.sh("sealane ps -aq; sealane diff; ip -o link show type veth group 24225") })
}

// patience is how long anything may take on a busy machine that is not measured.
const patience = 30 * time.Second

func (in *inn) sh(script string) string {
	in.Helper()
	r := in.a.Run("bash", "-c", script)
	if r.Code != 0 {
		in.Fatalf("%s: exit %d\n%s%s", script, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// within waits until wrong returns nothing.
func (in *inn) within(limit time.Duration, wrong func() string) {
	in.Helper()
	var text string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if text = wrong(); text == "" {
			return
		}
	}
	in.Errorf("not within %v: %s", limit, text)
}

// soon is when a container has its connections again, after the command that
// started it, and late when that is no longer a busy machine's fault.
const (
	soon = time.Second
	late = 5 * soon
)

// back checks that the container is reached from far, soon.
func (in *inn) back(what string) {
	in.Helper()
	began := time.Now()
	in.within(patience, func() string {
		out := strings.TrimSpace(in.far.Run("lab-echo", "probe", "-timeout", "200ms", "tcp://192.0.2.1:8090").Stdout)
		if out == "tcp://192.0.2.1:8090 192.0.2.2 web" {
			return ""
		}
		return what + ": " + out + "\n" + in.sh("sealane inspect "+in.ref+" | head -20")
	})
	took := time.Since(began)
	if in.Logf("%s: back after %v", what, took.Round(time.Millisecond)); took > late {
		in.Errorf("%s: back after %v, want %v", what, took, soon)
	}
	in.within(patience, func() string { return in.sh("sealane diff") })
}

// away checks that a container that does not run has nothing in the kernel.
func (in *inn) away() {
	in.Helper()
	in.within(patience, func() string {
		out := in.sh("sealane ps --format '{{.Name}} {{.Status.State}}'; sealane diff; ip -o link show type veth group 24225")
		if out == "web away\n" {
			return ""
		}
		return out
	})
}

// intent is what Sealane has of the container.
func (in *inn) intent() string {
	in.Helper()
	return in.sh("sealane inspect " + in.ref + " --format '{{json .Endpoints}} {{json .Ports}} {{json .Guest}}'")
}

// inside is our interface in the container, with its addresses and routes.
func (in *inn) inside() string {
	in.Helper()
	out := in.sh("sealane inspect " + in.ref + " --format '{{.NetNS}} {{(index .Endpoints 0).IfName}}'")
	ns, name, _ := strings.Cut(strings.TrimSpace(out), " ")
	return in.sh(fmt.Sprintf(`nsenter --net=%s sh -c 'ip link show dev $0; ip addr show dev $0; ip route' %s | sed 's/@[^ :]*//; s/^[0-9]*: //; s/link-netns.*//; s/ state [A-Z]*//; s/NO-CARRIER,//; s/,LOWER_UP//'`, ns, name))
}

// TestSameName: a name that two runtimes have is nobody's until its user says whose.
func TestSameName(t *testing.T) {
	t.Parallel()
	h := lab.New(t).Host("a")
	h.Daemon()
	h.Must("sh", "-c", `mkdir -p /var/lib/lxc/web /var/lib/machines/web; touch /var/lib/lxc/web/config
		sealane network create app`)
	r := h.Run("sealane", "network", "connect", "app", "web")
	if r.Code == 0 || !strings.Contains(r.Stderr, "web means lxc:web and machine:web") || !strings.Contains(r.Stderr, "say which") {
		t.Errorf("exit %d: %s", r.Code, r.Stderr)
	}
	h.Must("sealane", "network", "connect", "app", "machine:web")
	if got := h.Must("sealane", "ps", "--format", "{{.Guest.Runtime}}"); got != "machine\n" {
		t.Errorf("connected: %s", got)
	}
}

// TestInterfaceOfLXC: a container of LXC's starts whatever name we were told to give
// an interface of ours, for LXC puts its own in first.
func TestInterfaceOfLXC(t *testing.T) {
	t.Parallel()
	in := lxc().inn(t)
	in.sh("sealane network create app --subnet 10.50.0.0/24")
	in.sh("sealane network connect --await --ip 10.50.0.7 --ifname eth0 -p 8090:8000 app lxc:web")
	for range 3 {
		in.sh(in.start)
		in.within(patience, func() string {
			if out := in.sh("sealane ps; sealane inspect lxc:web"); !strings.Contains(out, "interface eth0: the container has one of its own") {
				return out
			}
			return ""
		})
		in.sh("lxc-info -n web -s | grep -q RUNNING")
		in.sh(in.stop)
		in.away()
	}
	in.sh("sealane network disconnect app lxc:web")
	in.sh("sealane network connect --await --ip 10.50.0.7 --ifname lan0 -p 8090:8000 app lxc:web")
	in.sh(in.start)
	in.back("another name")
}
