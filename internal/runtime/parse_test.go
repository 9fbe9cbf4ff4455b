package runtime

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/model"
)

func TestPlain(t *testing.T) {
	for name, want := range map[string]bool{
		"web": true, "a": true, "web_1.x-2": true, "0": true,
		"": false, ".": false, "..": false, "-web": false, "_web": false, "a/b": false, "a\nb": false, "a b": false, "ü": false, "a\x00": false, "a*": false, "a?x=1": false,
	} {
		if plain(name) != want {
			t.Errorf("%q: want %t", name, want)
		}
	}
}

func TestInCgroup(t *testing.T) {
	const id = "4cb2de51"
	for line, want := range map[string]bool{
		"0::/docker/4cb2de51\n":                                true,
		"0::/system.slice/docker-4cb2de51.scope\n":             true,
		"0::/machine.slice/libpod-4cb2de51.scope/container\n":  true,
		"9:name=systemd:/\n0::/libpod_parent/libpod-4cb2de51":  true,
		"0::/kubepods.slice/x/cri-containerd-4cb2de51.scope\n": true,
		"0::/../../docker/4cb2de51/init.scope\n":               true,
		"1:cpu,cpuacct:/docker/4cb2de51\n0::/\n":               true,
		"0::/docker/4cb2de51f7\n":                              false,
		"0::/docker/x4cb2de51\n":                               false,
		"0::/machine.slice/libpod-conmon-4cb2de51.scope.d/x\n": false,
		"0::/\n":   false,
		"":         false,
		"4cb2de51": false,
		"::":       false,
	} {
		if got := inCgroup([]byte(line), id); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
	if inCgroup([]byte("0::/\n"), "") {
		t.Error("nobody has no ID")
	}
}

// TestBelongs has a number in a file that is another process's by now.
func TestBelongs(t *testing.T) {
	if belongs(os.Getpid(), "4cb2de51") {
		t.Error("this process is of no container")
	}
	parent := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait", "-c", "4cb2de51")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 32)
	n, _ := out.Read(line)
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if start, err := process.Start(pid); err == nil {
			_ = process.Kill(pid, start, 9)
		}
		_ = parent.Wait()
	})
	if !belongs(pid, "4cb2de51") || belongs(pid, "4cb2de5") || belongs(pid, "") {
		t.Error("its parent watches over that container, and no other")
	}
	config, _ := fakePodman(t, `[{"id":"4cb2de51","names":["web"]},{"id":"aaaa","names":["db"]}]`)
	for _, id := range []string{"4cb2de51", "aaaa"} {
		file := filepath.Join(config.PodmanRun, "overlay-containers", id, "userdata/pidfile")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, fmt.Append(nil, pid), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]State{"web": Running, "db": Stopped} {
		if c, err := New(config).Find(t.Context(), model.Guest{Runtime: model.RuntimePodman, Name: name}); err != nil || c.State != want {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

// TestReused has a process that is another than the one that was found.
func TestReused(t *testing.T) {
	f := New(Config{})
	self := model.Guest{Runtime: model.RuntimePID, Name: fmt.Sprint(os.Getpid())}
	c, err := f.Find(t.Context(), self)
	if err != nil || c.State != Running || c.PID != os.Getpid() {
		t.Fatal(c, err)
	}
	if again, err := f.Find(t.Context(), c.Guest); err != nil || again != c {
		t.Errorf("found by its ID: %v, %v", again, err)
	}
	self.ID = c.Guest.ID + "0"
	if c, err := f.Find(t.Context(), self); err != nil || c.State != Gone || c.Guest.ID != "" {
		t.Errorf("another of that number: %v, %v", c, err)
	}
}

func TestZombieAndThread(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	f := New(Config{})
	find := func(pid int) Container {
		c, err := f.Find(t.Context(), model.Guest{Runtime: model.RuntimePID, Name: fmt.Sprint(pid)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	stat := fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)
	for data := []byte(nil); !bytes.Contains(data, []byte(") Z ")); {
		var err error
		if data, err = os.ReadFile(stat); err != nil {
			t.Fatal(err)
		}
	}
	if c := find(cmd.Process.Pid); c.State != Gone {
		t.Errorf("zombie: %v", c)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if id, _ := strconv.Atoi(task.Name()); id != os.Getpid() && find(id).State != Gone {
			t.Errorf("thread %d is taken for a process", id)
		}
	}
}

func TestLeader(t *testing.T) {
	for file, want := range map[string]int{
		"# This is private data. Do not parse.\nNAME=web\nLEADER=4711\nCLASS=container\n": 4711,
		"LEADER=4711":          4711,
		"LEADER=\n":            0,
		"LEADER=-1\n":          0,
		"LEADER=47x\n":         0,
		"XLEADER=47\n":         0,
		"LEADER=1\nLEADER=2\n": 1,
		"":                     0,
	} {
		if got := leader([]byte(file)); got != want {
			t.Errorf("%q: %d, want %d", file, got, want)
		}
	}
}

func TestStatusOf(t *testing.T) {
	const status = "Name:\tsh\nPid:\t16\nPPid:\t15\nNSpid:\t16\t1\nBad:\tx\n"
	for key, want := range map[string][]int{"NSpid": {16, 1}, "PPid": {15}, "Bad": nil, "None": nil, "": nil} {
		if got := statusOf([]byte(status), key); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
}

func TestPathOf(t *testing.T) {
	const config = "# graphroot = \"/no\"\n[storage]\ndriver = \"overlay\"\n  graphroot = \"/data/./containers\" # large\nrunroot=/run/c\nlxc.lxcpath = lxc\nempty =\n"
	for key, want := range map[string]string{"graphroot": "/data/containers", "runroot": "/run/c", "driver": "", "lxc.lxcpath": "", "empty": "", "none": ""} {
		if got := pathOf([]byte(config), key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

func FuzzParsers(f *testing.F) {
	for _, seed := range []string{
		`[{"id":"abc","names":["web"]}]`, `[{"id":"../x"}]`, "NAME=web\nLEADER=12\n", "12\n0\n13\n",
		"Name:\tsh\nNSpid:\t16\t1\n", "0::/docker/abc\n", "\x0a\x03abc", "\x0a\xff\xff\xff\xff\x0f", "\x12\x02xx\x0a\x01a",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseList(data)
		for _, e := range entries {
			if err != nil || !plain(e.ID) {
				t.Errorf("an ID that cannot be part of a path: %q, %v", e.ID, err)
			}
		}
		for _, pid := range append(parseProcs(data), leader(data), parsePID(data)) {
			if pid < 0 {
				t.Errorf("process %d", pid)
			}
		}
		if id := firstField(data); len(id) > len(data) {
			t.Errorf("longer than what it is read from: %q", id)
		}
		statusOf(data, "NSpid")
		if path := pathOf(data, "graphroot"); path != "" && !filepath.IsAbs(path) {
			t.Errorf("path %q", path)
		}
		if inCgroup(data, "abc") && !bytes.Contains(data, []byte("abc")) {
			t.Error("in a cgroup that is not named")
		}
	})
}
