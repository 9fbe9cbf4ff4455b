package lab

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab/cgroup"
)

// furnished builds a lab with everything in it and returns the namespaces it
// is made of, as "net:[4026532000]".
func furnished(t *testing.T, l *Lab) []string {
	h, sw := l.Host("a"), l.Switch("lan")
	h.Plug(sw, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	h.NetNS("c1")
	serveEcho(t, h, "-tcp", "80", "-udp", "53")
	h.Must("sh", "-c", `setsid unshare --net --mount sh -c '
		readlink /proc/self/ns/net /proc/self/ns/mnt > /run/new && mv /run/new /run/orphan
		exec sleep 600' >/dev/null 2>&1 &`)
	if h.cgroup != nil {
		h.Must("mkdir", "-p", "/sys/fs/cgroup/one/two")
	}
	orphan := h.Must("sh", "-c", "until test -s /run/orphan; do sleep 0.01; done; cat /run/orphan")
	names := strings.Fields(orphan)
	names = append(names, strings.Fields(h.Must("nsenter", "--net=/run/netns/c1", "readlink", "/proc/self/ns/net"))...)
	for _, n := range h.ns {
		names = append(names, link(fmt.Sprintf("/proc/self/fd/%d", n.file.Fd())))
	}
	return append(names, link(fmt.Sprintf("/proc/self/fd/%d", sw.ns.Fd())))
}

func link(path string) string {
	s, _ := os.Readlink(path)
	return s
}

// holders returns who on the machine holds one of the namespaces: a thread,
// a file descriptor or a mount. A zombie, which has no executable any more,
// holds nothing that it could use; the machine's init may be slow to reap.
func holders(namespaces []string) []string {
	var found []string
	for _, pattern := range []string{"/proc/[0-9]*/task/*/ns/*", "/proc/[0-9]*/fd/*"} {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths {
			zombie := link(strings.Join(strings.Split(p, "/")[:3], "/")+"/exe") == ""
			if slices.Contains(namespaces, link(p)) && !zombie {
				found = append(found, p)
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, ns := range namespaces {
		if strings.Contains(string(mounts), ns) {
			found = append(found, "mount of "+ns)
		}
	}
	return found
}

// files returns what the labs of process pid have in file systems.
func files(pid int) []string {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), mark(pid)+"*"))
	if parent, err := cgroup.Own(); err == nil {
		cgroups, _ := filepath.Glob(filepath.Join(parent, mark(pid)+"*"))
		found = append(found, cgroups...)
	}
	return found
}

// waitGone waits until nobody holds the namespaces: threads take a moment.
func waitGone(t *testing.T, namespaces []string) {
	t.Helper()
	var left []string
	for range 100 {
		if left = holders(namespaces); len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("left behind: %v", left)
}

func TestNothingIsLeft(t *testing.T) {
	links, mounts := machine(t)
	var namespaces []string
	t.Run("lab", func(t *testing.T) {
		namespaces = furnished(t, New(t))
		if n := len(holders(namespaces)); len(namespaces) < 8 || n < len(namespaces) {
			t.Fatalf("%d holders of %v", n, namespaces)
		}
	})
	waitGone(t, namespaces)
	for _, f := range files(os.Getpid()) {
		if f != os.Getenv(EnvBin) {
			t.Errorf("left behind: %s", f)
		}
	}
	linksAfter, mountsAfter := machine(t)
	if !slices.Equal(links, linksAfter) {
		t.Errorf("links before %v, after %v", links, linksAfter)
	}
	if !slices.Equal(mounts, mountsAfter) {
		t.Errorf("mounts before %v, after %v", mounts, mountsAfter)
	}
}

// machine returns the links of the machine and the mounts that bear our name
// or are namespaces; others work on the same machine.
func machine(t *testing.T) (links, mounts []string) {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		links = append(links, e.Name())
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, "nsfs") || strings.Contains(line, "sealane") {
			mounts = append(mounts, line)
		}
	}
	return links, mounts
}

// TestKilledTestLeavesNothing builds a lab in a process of its own and kills
// that with -9.
func TestKilledTestLeavesNothing(t *testing.T) {
	const env = "SEALANE_LAB_KILL_ME"
	if os.Getenv(env) != "" {
		fmt.Println("made", strings.Join(furnished(t, New(t)), " "))
		time.Sleep(time.Minute)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	namespaces := strings.Fields(line)
	if len(namespaces) < 8 || namespaces[0] != "made" {
		cmd.Wait()
		t.Fatalf("no lab: %q", line)
	}
	cmd.Process.Kill()
	cmd.Wait()
	waitGone(t, namespaces[1:])
	if len(files(cmd.Process.Pid)) == 0 {
		t.Error("the killed process left no binaries: what does sweep do?")
	}
	left := files(cmd.Process.Pid)
	for end := time.Now().Add(2 * time.Second); len(left) != 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		sweep() // a process leaves its cgroup a moment after it was reaped
		left = files(cmd.Process.Pid)
	}
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestHostsAreSeparate(t *testing.T) {
	l := New(t)
	seen := map[string]string{}
	for _, name := range []string{"a", "b"} {
		for _, n := range l.Host(name).ns {
			ns := link(fmt.Sprintf("/proc/self/fd/%d", n.file.Fd()))
			if other, ok := seen[ns]; ok {
				t.Errorf("%s and %s share %s", name, other, ns)
			}
			seen[ns] = name
		}
	}
	if len(seen) < 8 {
		t.Errorf("namespaces: %v", slices.Sorted(maps.Keys(seen)))
	}
}
