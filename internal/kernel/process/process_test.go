package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "script": 0o755, "garbage": 0o755} {
		content := map[string]string{"script": "#!/no/such/interpreter\n", "garbage": "\x00\x01"}[name]
		if err := os.WriteFile(dir+"/"+name, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + dir + ":/usr/bin:/bin"}
	for _, c := range []struct {
		args []string
		code int
		err  string
	}{
		{sh("exit 0"), 0, ""},
		{sh("exit 3"), 3, ""},
		{sh("kill -9 $$"), 137, "killed\n"},
		{sh("kill -TERM $$"), 143, "terminated\n"},
		{[]string{""}, 127, "the command is empty: leave it out to hold the namespace\n"},
		{[]string{"no-such-command"}, 127, "no-such-command: execute: not found in PATH\n"},
		{[]string{"/no/such"}, 127, "/no/such: execute: no such file or directory\n"},
		{[]string{"script"}, 127, "script: execute: no such file or directory\n"},
		{[]string{"plain"}, 126, dir + "/plain: execute: permission denied\n"},
		{[]string{"/etc"}, 126, "/etc: execute: is a directory\n"},
		{[]string{"garbage"}, 126, "garbage: execute: exec format error\n"},
		{nil, 125, "command: start: none given\n"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			got := run(t, Spec{Args: c.args, Env: env})
			if want := (result{c.code, "", c.err}); got != want {
				t.Errorf("got %v\nwant %v", got, want)
			}
		})
	}
	t.Run("ours", func(t *testing.T) {
		for err, spec := range map[string]Spec{
			"/no/such/ns: open network namespace: no such file or directory\n": {NetNS: "/no/such/ns"},
			"/no/such/dir: change directory: no such file or directory\n":      {Dir: "/no/such/dir"},
			"/etc/hosts: bind /no/such over it: no such file or directory\n":   {Hosts: "/no/such"},
			"/etc/hostname: enter network namespace: invalid argument\n":       {NetNS: "/etc/hostname"},
		} {
			spec.Args = []string{"true"}
			if got, want := run(t, spec), (result{125, "", err}); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		path, inode := newNetns(t)
		if got := run(t, Spec{NetNS: path, Inode: inode + 1, Args: []string{"true"}}); got.code != 125 || !strings.Contains(got.err, "another one") {
			t.Errorf("another namespace at the path: %v", got)
		}
	})
}

func TestInherits(t *testing.T) {
	t.Run("stdin", func(t *testing.T) {
		cmd := runner(t, Spec{Args: []string{"tr", "a-z", "A-Z"}}, "")
		cmd.Stdin = strings.NewReader("hello")
		if got, want := finished(cmd), (result{0, "HELLO", ""}); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("env", func(t *testing.T) {
		got := run(t, Spec{Args: []string{"/usr/bin/env"}, Env: []string{"A=1", "B=two words"}})
		if want := (result{0, "A=1\nB=two words\n", ""}); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("dir", func(t *testing.T) {
		got := run(t, Spec{Args: []string{"pwd"}, Dir: "/usr/bin"})
		if want := (result{0, "/usr/bin\n", ""}); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("relative PATH", func(t *testing.T) {
		got := run(t, Spec{Args: []string{"pwd"}, Dir: "/usr", Env: []string{"PATH=bin"}})
		if want := (result{0, "/usr\n", ""}); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("descriptors", func(t *testing.T) { // none of ours
		got := run(t, Spec{Args: sh("ls -l /proc/self/fd | grep -c -e pidfd -e memfd -e ns:")})
		if got.out != "0\n" {
			t.Errorf("descriptors of ours: %v", got)
		}
	})
	t.Run("group", func(t *testing.T) { // and the signals that are ignored or blocked
		cmd := runner(t, Spec{Args: sh("ps -o pgid= -p $$; grep -e SigBlk -e SigIgn /proc/self/status")}, "")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		got := finished(cmd)
		want := []string{strconv.Itoa(cmd.Process.Pid), "SigBlk:\t0000000000000000", ignored(t, 0)}
		have := lines(got.out)
		have[0] = strings.TrimSpace(have[0])
		if diff := cmp.Diff(want, have); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSandbox(t *testing.T) {
	path, inode := newNetns(t)
	etc := func() string { return read(t, "/etc/hosts") + read(t, "/etc/hostname") + read(t, "/etc/resolv.conf") }
	before := etc()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	got := run(t, Spec{
		NetNS: path, Inode: inode,
		Hosts: file(t, "hosts\n"), Hostname: file(t, "hostname\n"), ResolvConf: file(t, "resolv\n"),
		UTSName: "box",
		Env:     []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")},
		Args: sh("readlink /proc/self/ns/net; cat /etc/hosts /etc/hostname /etc/resolv.conf; uname -n; ls /sys/class/net; " +
			"ls /sys/fs/cgroup; test -w /sys/class || echo read-only"),
	})
	entries, err := os.ReadDir("/sys/fs/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var groups string
	for _, e := range entries {
		groups += e.Name() + "\n"
	}
	want := fmt.Sprintf("net:[%d]\nhosts\nhostname\nresolv\nbox\nlo\n%sread-only\n", inode, groups)
	if diff := cmp.Diff(result{0, want, ""}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Error(diff)
	}
	if etc() != before {
		t.Error("the host's files have changed")
	}
	if name, _ := os.Hostname(); name != host {
		t.Errorf("the host is called %q now", name)
	}
}

// What an empty field leaves is the caller's.
func TestNoSandbox(t *testing.T) {
	show := "readlink /proc/self/ns/net; readlink /proc/self/ns/uts; readlink /proc/self/ns/mnt; cat /etc/hosts"
	var want string
	for _, ns := range []string{"net", "uts", "mnt"} {
		name, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		want += name + "\n"
	}
	want += read(t, "/etc/hosts")
	if got := run(t, Spec{Args: sh(show)}); got != (result{0, want, ""}) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Our own process stays where it is, whatever it starts.
func TestStays(t *testing.T) {
	path, inode := newNetns(t)
	before, _ := os.Readlink("/proc/self/ns/net")
	dir, _ := os.Getwd()
	for range 20 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		status, err := Run(context.Background(), Spec{NetNS: path, Dir: "/", Args: sh("pwd; readlink /proc/self/ns/net")}, Stdio{Out: w}, nil)
		w.Close()
		out, _ := io.ReadAll(r)
		r.Close()
		if want := fmt.Sprintf("/\nnet:[%d]\n", inode); err != nil || status.Code != 0 || string(out) != want {
			t.Fatalf("%v, %v: %q", status, err, out)
		}
		if now, _ := os.Readlink("/proc/thread-self/ns/net"); now != before {
			t.Fatal("a thread of ours has moved")
		}
		if now, _ := os.Getwd(); now != dir {
			t.Fatal("our directory has changed")
		}
	}
	if now, _ := os.Readlink("/proc/self/ns/net"); now != before {
		t.Error("our process has moved")
	}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	status, err := Run(ctx, Spec{Args: []string{"sleep", "60"}}, Stdio{}, nil)
	if err != nil || status != (Status{143, "terminated"}) {
		t.Errorf("%v, %v", status, err)
	}
}

func TestSignalsForwarded(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			name := strings.TrimPrefix(unix.SignalName(sig), "SIG")
			cmd := runner(t, Spec{Args: sh("trap 'echo got; exit 42' " + name + "; echo ready; while :; do sleep 0.05; done")}, "")
			// In a session without terminal no signal is the terminal's.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(out)
			if line, err := r.ReadString('\n'); line != "ready\n" {
				t.Fatal(line, err)
			}
			cmd.Process.Signal(sig)
			rest, _ := io.ReadAll(r)
			cmd.Wait()
			if string(rest) != "got\n" || cmd.ProcessState.ExitCode() != 42 {
				t.Errorf("%q, %v", rest, cmd.ProcessState)
			}
		})
	}
}

// ignored is the line of /proc/PID/status about signals that a process of ours
// has to ignore: more, and what we were started with, as make(1) starts
// processes with signals 32 and 33 ignored (glibc's posix_spawn).
func ignored(t *testing.T, more uint64) string {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:\t")
	mask, err := strconv.ParseUint(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("SigIgn:\t%016x", mask|more)
}

// nohup works through us.
func TestIgnoredStaysIgnored(t *testing.T) {
	cmd := runner(t, Spec{Args: sh("grep SigIgn /proc/self/status")}, "")
	cmd.Args = []string{"sh", "-c", "trap '' HUP; exec " + fmt.Sprintf("/proc/%d/exe", os.Getpid())}
	cmd.Path = "/bin/sh"
	if got := finished(cmd); got.out != ignored(t, 1)+"\n" {
		t.Errorf("%v", got)
	}
}

func TestKilledWithUs(t *testing.T) {
	cmd := runner(t, Spec{Args: sh("echo $$; exec sleep 60")}, "")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	start, _, err := stat(pid)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // threads of the client come and go meanwhile
	if !Alive(pid, start) {
		t.Fatal("the command died before us")
	}
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "the command is killed", func() bool { return !Alive(pid, start) })
}

func TestErrorIsTyped(t *testing.T) {
	status, err := Run(context.Background(), Spec{Args: []string{"no-such-command"}}, Stdio{}, nil)
	failure, ok := errors.AsType[*Error](err)
	if !ok || failure.Code != CodeNotFound || status.Code != CodeNotFound {
		t.Errorf("%v, %v", status, err)
	}
}
