package runtime

import (
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

// TestMachine runs systemd-nspawn. Without systemd there is no machined: the file
// that it would write of the machine is written here.
func TestMachine(t *testing.T) {
	lab.Needs(t, "systemd-nspawn")
	h := lab.New(t).Host("a")
	r := observe(t, h, "machine:web")
	r.await("machine:web", "gone")
	h.Must("sh", "-c", lab.Root, "sh", "/var/lib/machines/web")
	r.await("machine:web", "stopped web web")
	start := func() (leader string) {
		t.Helper()
		h.Start("systemd-nspawn", "-q", "--register=no", "--keep-unit", "--private-network", "-M", "web", "-D", "/var/lib/machines/web", "/lab-echo", "serve", "-udp", "9")
		leader = strings.TrimSpace(h.Must("sh", "-c", `until pgrep -xf '/lab-echo serve -udp 9'; do sleep 0.02; done`))
		h.Must("sh", "-c", `mkdir -p /run/systemd/machines; cd /run/systemd/machines; printf '# This is private data. Do not parse.\nNAME=web\nUNIT=machine-web.scope\nROOT=/var/lib/machines/web\nID=4ac0\nLEADER=%s\nCLASS=container\n' $0 >.#web1; mv .#web1 web`, leader)
		return leader
	}
	leader := start()
	at := r.running("machine:web", seat{})
	if at.pid != leader || at.inode != inodeOf(h, leader) || at.inode == inodeOf(h, "1") {
		t.Errorf("found %+v, want process %s", at, leader)
	}
	h.Must("kill", "-9", leader) // and nobody writes that down
	r.await("machine:web", "stopped")
	h.Must("rm", "/run/systemd/machines/web")
	leader = start()
	if again := r.running("machine:web", at); again.pid != leader {
		t.Errorf("restarted: %+v, want process %s", again, leader)
	}
	for _, ref := range []string{"machine:..", "machine:../machines/web", "machine:.#web1", "machine:" + strings.Repeat("x", 65)} {
		if got := r.find(ref); !strings.HasPrefix(got, "gone") {
			t.Errorf("%s: %s", ref, got)
		}
	}
	h.Must("sh", "-c", "kill -9 $0; rm -r /run/systemd/machines/web /var/lib/machines/web", leader)
	r.await("machine:web", "gone")
	h.Must("sh", "-c", "mkdir -p /run/systemd/nspawn; touch /run/systemd/nspawn/web.nspawn")
	r.await("machine:web", "stopped")
	h.Must("rm", "/run/systemd/nspawn/web.nspawn")
	r.await("machine:web", "gone")
}
