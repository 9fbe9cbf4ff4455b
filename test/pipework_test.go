package script

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/podman"
)

// inn is a kind of container, by what its own tools do with one called web.
type inn struct {
	ref     string
	needs   string // programs, with spaces between them
	furnish string // the host
	start   string
	stop    string
	remove  string
}

// lxcWeb configures a container of LXC without a network.
const lxcWeb = `mkdir -p /var/lib/lxc/web
cat >/var/lib/lxc/web/config <<'END'
lxc.rootfs.path = dir:/run/root
lxc.uts.name = web
lxc.net.0.type = empty
lxc.init.cmd = /lab-echo serve -udp 9
lxc.apparmor.profile = unconfined
END
`

// machineWeb starts systemd-nspawn, and writes what systemd-machined would.
const machineWeb = `systemd-nspawn -q --register=no --keep-unit --private-network -M web -D /var/lib/machines/web /lab-echo serve -udp 9 </dev/null >/dev/null 2>&1 &
until leader=$(pgrep -xf '/lab-echo serve -udp 9'); do sleep 0.02; done
mkdir -p /run/systemd/machines
cd /run/systemd/machines
printf 'NAME=web\nCLASS=container\nLEADER=%s\n' $leader >.#web
mv .#web web`

func inns() []inn {
	pod := func(args string) string { return podman.Command + " " + args }
	return []inn{
		{ref: "netns:/run/netns/web", needs: "ip", furnish: "true", start: "ip netns add web", stop: "ip netns del web"},
		{ref: "podman:web", needs: podman.Programs, furnish: podman.Furnish + pod("create --network none --name web echo /lab-echo serve -udp 9"),
			start: pod("start web"), stop: pod("stop -t 0 web"), remove: pod("rm -f web")},
		{ref: "lxc:web", needs: "lxc-start", furnish: "set -- /run/root; " + lab.Root + lxcWeb,
			start: "lxc-start -n web -d", stop: "lxc-stop -n web -k; lxc-wait -n web -s STOPPED", remove: "rm -r /var/lib/lxc/web"},
		{ref: "machine:web", needs: "systemd-nspawn", furnish: "set -- /var/lib/machines/web; " + lab.Root,
			start: machineWeb, stop: "kill -9 $(pgrep -xf '/lab-echo serve -udp 9'); rm /run/systemd/machines/web; while pgrep -x systemd-nspawn; do sleep 0.02; done", remove: "rm -r /var/lib/machines/web"},
	}
}

// TestPipeworkOfRuntimes: what commands gave a container of whatever runtime is
// there again after each of its starts, also when the daemon was away, and goes
// with it.
func TestPipeworkOfRuntimes(t *testing.T) {
	for _, c := range inns() {
		t.Run(c.ref, func(t *testing.T) {
			lab.Needs(t, strings.Fields(c.needs)...)
			h := lab.New(t).Host("a")
			sh := func(script string) { t.Helper(); h.Must("bash", "-c", script) }
			says := func(status int, want, line string) {
				t.Helper()
				if got := h.Run("sh", "-c", line); got.Code != status || !strings.Contains(got.Stdout+got.Stderr, want) {
					t.Errorf("%s: %+v, want status %d and %s", line, got, status, want)
				}
			}
			sh(c.furnish)
			h.Daemon()
			sh(c.start)
			first := fmt.Sprintf("pipework br1 %s 192.168.1.7/24@192.168.1.254 U:web", c.ref)
			h.Must("sh", "-c", first)
			sh("ip addr add 192.168.1.254/24 dev br1")
			h.Must("pipework", "br1", "-i", "eth2", c.ref, "192.168.2.7/24")
			h.Must("pipework", "route", c.ref, "add", "10.9.0.0/16", "via", "192.168.2.254", "dev", "eth2")
			h.Must("pipework", "route", c.ref, "add", "10.8.0.0/16", "dev", "eth2")
			h.Must("pipework", "route", c.ref, "del", "10.8.0.0/16")
			list := h.Must("pipework", "--list")
			works := func(when string) {
				t.Helper()
				sh(`for i in $(seq 200); do pipework route ` + c.ref + ` show 10.9.0.0/16 | grep -q eth2 && lab-echo ping -timeout 300ms 192.168.1.7 && exit; sleep 0.05; done; exit 1`)
				if got := h.Must("pipework", "route", c.ref, "show"); !strings.Contains(got, "default via 192.168.1.254 dev eth1") || strings.Contains(got, "10.8.0.0") {
					t.Errorf("%s: %s", when, got)
				}
				if got := h.Must("pipework", "--list"); got != list {
					t.Errorf("%s there is\n%s\nwas\n%s", when, got, list)
				}
			}
			works("at first")
			sh(c.stop)
			says(0, "", first)
			says(1, c.ref[strings.Index(c.ref, ":")+1:]+" is stopped", "pipework br1 -i eth3 "+c.ref+" 192.168.3.7/24")
			says(1, "web is stopped", "pipework br1 -i eth3 web 192.168.3.7/24")
			sh(c.start)
			works("started again")
			h.Kill9()
			sh(c.stop)
			sh(c.start)
			h.Restart()
			works("with the daemon away")
			says(0, "", first)
			if c.remove == "" {
				h.Must("pipework", "--undo", "route", c.ref, "add", "10.9.0.0/16", "via", "192.168.2.254", "dev", "eth2")
				h.Must("pipework", "--undo", "br1", c.ref)
			} else {
				sh(c.stop + "\n" + c.remove)
			}
			for end := time.Now().Add(30 * time.Second); h.Must("pipework", "--list") != ""; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("left: %s", h.Must("pipework", "--list"))
				}
			}
		})
	}
}
