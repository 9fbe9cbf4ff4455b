package runtime

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

func TestNamespace(t *testing.T) {
	h := lab.New(t).Host("a")
	const ref = "netns:/run/netns/web"
	r := observe(t, h, ref) // before its directory exists
	r.await(ref, "stopped")
	h.Must("ip", "netns", "add", "web")
	first := r.running(ref, seat{}).inode
	if got := h.Must("stat", "-Lc", "%i", "/run/netns/web"); strings.TrimSpace(got) != first {
		t.Errorf("inode %s, want %s", first, got)
	}
	h.Must("ip", "netns", "del", "web")
	r.await(ref, "stopped")
	h.Must("ip", "netns", "add", "web")
	r.running(ref, seat{}) // its number may be the one before
	// Something else over it, and away: no directory changes.
	h.Must("sh", "-c", "mount --bind /dev/null /run/netns/web")
	r.await(ref, "stopped")
	h.Must("umount", "/run/netns/web")
	second := r.running(ref, seat{})
	h.Must("sh", "-c", "ip netns add other && ip netns del web && ip netns add web")
	r.running(ref, second)
	if got := r.find("netns:/run/netns/none"); !strings.HasPrefix(got, "stopped") {
		t.Errorf("missing: %s", got)
	}
	if got := r.find("netns:/etc/passwd"); !strings.HasPrefix(got, "stopped") {
		t.Errorf("no namespace: %s", got)
	}
}

// TestNamespaceOfProcess follows paths that go with a process.
func TestNamespaceOfProcess(t *testing.T) {
	h := lab.New(t).Host("a")
	pid := strings.TrimSpace(h.Must("sh", "-c", "unshare -n sleep 1000 >/dev/null 2>&1 & echo $!; mkdir -p /run/netns; ln -s /proc/$!/ns/net /run/netns/link"))
	direct, link, process := "netns:/proc/"+pid+"/ns/net", "netns:/run/netns/link", "pid:"+pid
	h.Must("sh", "-c", "until test $(readlink /proc/"+pid+"/ns/net) != $(readlink /proc/1/ns/net); do sleep 0.01; done")
	r := observe(t, h, direct, link, process)
	for _, ref := range []string{direct, link, process} {
		if at := r.running(ref, seat{}); at.inode != inodeOf(h, pid) || at.pid != pid {
			t.Errorf("%s: %+v", ref, at)
		} else if ref == process && !strings.HasPrefix(at.id, pid+"/") {
			t.Errorf("ID of process: %s", at.id)
		}
	}
	h.Must("kill", "-9", pid)
	r.await(direct, "stopped")
	r.await(link, "stopped")
	r.await(process, "gone")
	for _, ref := range []string{"pid:4194303", "pid:99999999999999999999"} {
		if got := r.find(ref); !strings.HasPrefix(got, "gone") {
			t.Errorf("%s: %s", ref, got)
		}
	}
}

// TestStorm has two hundred containers restart at once.
func TestStorm(t *testing.T) {
	h := lab.New(t).Host("a")
	const count = 200
	var refs []string
	for i := range count {
		refs = append(refs, fmt.Sprintf("netns:/run/netns/c%d", i))
	}
	const each = `for i in $(seq 0 199); do echo "netns $0 c$i"; done | ip -batch -`
	h.Must("sh", "-c", each, "add")
	r := observe(t, h, refs...)
	for _, ref := range refs {
		r.running(ref, seat{})
	}
	h.Must("sh", "-c", each, "del")
	for _, ref := range refs {
		r.await(ref, "stopped")
	}
	h.Must("sh", "-c", each, "add")
	began := time.Now()
	for _, ref := range refs {
		r.running(ref, seat{})
	}
	took := time.Since(began)
	r.order("cpu")
	t.Logf("the last is known %s after it was made; time used and hints: %s", took, r.await("cpu", ""))
	if took > 5*time.Second {
		t.Errorf("the last is known after %s", took)
	}
}
