package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// call is one execution of the plugin.
type call struct {
	command string
	on      *space            // nil for what is not about a container
	ifname  string            //
	conf    map[string]any    // stdin, unless raw is not nil
	raw     []byte            //
	env     map[string]string // over what follows from the above
	without []string          // variables that are not set at all
	kill    time.Duration     // kill it after this time, if it is not zero
}

// outcome is what came of it.
type outcome struct {
	call   call
	code   int // exit status; -1 after a signal
	stdout []byte
	stderr []byte
	broken string // how the execution itself went wrong, or nothing
}

// callTimeout is how long a call may take: more than any runtime waits.
const callTimeout = 30 * time.Second

// environ is the call's environment.
func (c *call) environ(t *target) []string {
	env := map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CNI_COMMAND": c.command, "CNI_PATH": t.Path}
	if c.on != nil {
		env["CNI_CONTAINERID"], env["CNI_NETNS"], env["CNI_IFNAME"] = c.on.id, c.on.path, c.ifname
	}
	for k, v := range c.env {
		env[k] = v
	}
	var out []string
	for k, v := range env {
		if !slices.Contains(c.without, k) {
			out = append(out, k+"="+v)
		}
	}
	return out
}

// input is the call's stdin.
func (c *call) input() ([]byte, error) {
	if c.raw != nil {
		return c.raw, nil
	}
	return json.Marshal(c.conf)
}

// exec executes the plugin and remembers what came of it.
func (s *stand) exec(c call) outcome {
	o := s.execute(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, o)
	return o
}

func (s *stand) execute(c call) outcome {
	o := outcome{call: c, code: -1}
	in, err := c.input()
	if err != nil {
		o.broken = err.Error()
		return o
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(s.Plugin)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.environ(&s.target), bytes.NewReader(in), &stdout, &stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	cmd.WaitDelay = 2 * time.Second // a process left behind may hold stdout
	if err := cmd.Start(); err != nil {
		o.broken = err.Error()
		return o
	}
	limit := callTimeout
	if c.kill > 0 {
		limit = c.kill
	}
	timer := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	err = cmd.Wait()
	late := !timer.Stop()
	o.code, o.stdout, o.stderr = cmd.ProcessState.ExitCode(), stdout.Bytes(), stderr.Bytes()
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		o.broken = "a process that it left behind holds its stdout or stderr"
	case late && c.kill == 0:
		o.broken = fmt.Sprintf("still running after %v", callTimeout)
	}
	return o
}

// failure is the object that a plugin prints when it fails.
type failure struct {
	CNIVersion *string `json:"cniVersion"`
	Code       *uint   `json:"code"`
	Msg        string  `json:"msg"`
	Details    string  `json:"details"`
}

// text is all its words.
func (f *failure) text() string { return strings.TrimSuffix(f.Msg+"; "+f.Details, "; ") }

// String is an outcome in one line, as the report has it.
func (o outcome) String() string {
	if o.broken != "" {
		return o.broken
	}
	out := fmt.Sprintf("exit %d", o.code)
	if f, err := o.failure(); err == nil {
		return fmt.Sprintf("%s, code %d: %s", out, *f.Code, f.text())
	}
	if len(o.stdout) > 0 {
		return out + ", stdout " + strings.Join(strings.Fields(string(o.stdout)), " ")
	}
	out += ", stdout empty"
	if words := strings.Join(strings.Fields(string(o.stderr)), " "); words != "" && o.code != 0 {
		out += ", stderr " + words
	}
	return out
}

// failure reads the error object, which has to be all of stdout.
func (o outcome) failure() (*failure, error) {
	if o.code == 0 {
		return nil, errors.New("exit 0")
	}
	var f failure
	if err := one(o.stdout, &f); err != nil {
		return nil, err
	}
	if f.Code == nil || *f.Code == 0 || f.Msg == "" {
		return nil, errors.New("no code or no msg")
	}
	return &f, nil
}

// one reads exactly one JSON object.
func one(b []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return errors.New("not a JSON object")
	}
	if err := dec.Decode(to); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON object")
	}
	return nil
}

// refused says how an outcome is not a failure with an error object, with one
// of the codes if there are any and with all of the words in it.
func (o outcome) refused(codes []uint, words ...string) error {
	f, err := o.failure()
	if err != nil {
		return seen("%v", o)
	}
	if len(codes) > 0 && !slices.Contains(codes, *f.Code) {
		return seen("%v", o)
	}
	for _, w := range words {
		if !strings.Contains(f.text(), w) {
			return seen("%v; nothing about %s", o, w)
		}
	}
	return nil
}

// succeeded says how an outcome is no success.
func (o outcome) succeeded() error {
	if o.broken != "" || o.code != 0 {
		return seen("%v", o)
	}
	return nil
}

// politely accepts an outcome that is a success as well as one that is refused
// with one of the codes and with all of the words, and notes which it was.
func (o outcome) politely(codes []uint, words ...string) error {
	if o.succeeded() == nil {
		return aside("accepted")
	}
	if err := o.refused(codes, words...); err != nil {
		return err
	}
	f, err := o.failure()
	if err != nil {
		return err
	}
	return aside("refused with code %d", *f.Code)
}
