package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain makes the test binary a client: with a job in its environment it
// runs it as "sealane run" would, with -d if the job has an exit file.
func TestMain(m *testing.M) {
	Stage()
	if order := os.Getenv("PROCESS_TEST_JOB"); order != "" {
		os.Exit(client(order))
	}
	os.Exit(m.Run())
}

func client(order string) int {
	var j job
	if err := json.Unmarshal([]byte(order), &j); err != nil {
		panic(err)
	}
	if j.Exit != "" {
		pid, start, err := Detach(j.Spec, j.Exit+".out", j.Exit)
		if failure, ok := errors.AsType[*Error](err); ok {
			fmt.Fprintln(os.Stderr, err)
			return failure.Code
		}
		fmt.Println(pid, start)
		return 0
	}
	status, err := Run(context.Background(), j.Spec, Stdio{}, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if status.Signal != "" {
		fmt.Fprintln(os.Stderr, status.Signal)
	}
	return status.Code
}

// runner returns a client that runs spec when started.
func runner(t *testing.T, spec Spec, exitFile string) *exec.Cmd {
	t.Helper()
	if spec.Env == nil {
		spec.Env = []string{"PATH=" + os.Getenv("PATH")}
	}
	order, err := json.Marshal(job{spec, exitFile})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PROCESS_TEST_JOB="+string(order))
	return cmd
}

// result is what a client leaves.
type result struct {
	code     int
	out, err string
}

func (r result) String() string { return fmt.Sprintf("%d %q %q", r.code, r.out, r.err) }

func run(t *testing.T, spec Spec) result {
	t.Helper()
	return finished(runner(t, spec, ""))
}

func finished(cmd *exec.Cmd) result {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Run()
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func sh(script string) []string { return []string{"sh", "-c", script} }

// newNetns returns the path and inode of a network namespace that lives as
// long as the test.
func newNetns(t *testing.T) (string, uint64) {
	t.Helper()
	made := make(chan *os.File)
	aside(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			panic(err)
		}
		made <- f
	})
	f := <-made
	t.Cleanup(func() { f.Close() })
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), st.Ino
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := t.TempDir() + "/file"
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: did not come to pass", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func lines(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }
