package process

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervisorName is argv[0] of a supervisor, and what ps shows.
const supervisorName = "sealane:supervisor"

// Descriptors of a supervisor beside its standard files.
const (
	jobFD    = 3 // a memory file with its job: nothing of it shows in ps
	reportFD = 4 // a pipe that gets its report
)

// job is what a supervisor is told.
type job struct {
	Spec Spec   `json:"spec"`
	Exit string `json:"exit"`
}

// report is what it says once the command runs, or that it does not.
type report struct {
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"`
	Code  int    `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}

// Exit is the content of an exit file.
type Exit struct {
	Code   int       `json:"code"`             // as in Status
	Signal string    `json:"signal,omitempty"` // as in Status
	At     time.Time `json:"at"`
}

// Detach starts a command that outlives us, under a supervisor in a session of
// its own. Standard input is empty; standard output and error are appended to
// the file out (empty: discarded). When the command ends, exitFile comes to be
// in one step, with an Exit in it. SIGTERM to the supervisor is passed on.
//
// Detach returns the command's PID and start time, see Alive, once exec has
// succeeded, else an *Error.
func Detach(spec Spec, out, exitFile string) (pid int, start uint64, err error) {
	if spec.Env == nil {
		spec.Env = os.Environ()
	}
	if exitFile, err = filepath.Abs(exitFile); err != nil {
		return 0, 0, failed("%s: find directory: %w", exitFile, err)
	}
	if out == "" {
		out = os.DevNull
	}
	log, err := os.OpenFile(out, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return 0, 0, failed("output: %w", err)
	}
	defer log.Close()
	order, err := Memory(job{spec, exitFile})
	if err != nil {
		return 0, 0, failed("supervisor: write job: %w", err)
	}
	defer order.Close()
	r, err := superviseFrom(order, log)
	if err != nil {
		return 0, 0, failed("supervisor: start: %w", err)
	}
	if r.Error != "" {
		return 0, 0, &Error{r.Code, errors.New(r.Error)}
	}
	return r.PID, r.Start, nil
}

// superviseFrom starts a supervisor and returns its report.
func superviseFrom(order, log *os.File) (report, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return report{}, err
	}
	defer null.Close()
	listen, tell, err := os.Pipe()
	if err != nil {
		return report{}, err
	}
	defer listen.Close()
	// What our caller left open for us (a pipe that somebody reads to its
	// end) is not for a process that stays.
	unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	p, err := os.StartProcess("/proc/self/exe", []string{supervisorName}, &os.ProcAttr{
		Env:   []string{"GOMAXPROCS=1"}, // it sleeps; the command's own is in the job
		Files: []*os.File{null, log, log, order, tell},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	tell.Close()
	if err != nil {
		return report{}, err
	}
	go p.Wait() // should we live longer
	var r report
	switch err := json.NewDecoder(listen).Decode(&r); {
	case errors.Is(err, io.EOF):
		return r, errors.New("it ended before the command began")
	case err != nil:
		return r, err
	}
	return r, nil
}

// Stage is the first thing that main of every program has to call that uses
// Detach. In a supervisor it does not return.
func Stage() {
	if len(os.Args) > 0 && os.Args[0] == supervisorName {
		os.Exit(supervise())
	}
}

// supervise runs the command of the job and returns our own exit status.
func supervise() int {
	unix.CloseOnExec(jobFD)
	unix.CloseOnExec(reportFD)
	tell := os.NewFile(reportFD, "report")
	var j job
	if err := readJob(&j); err != nil {
		json.NewEncoder(tell).Encode(report{Code: CodeFailed, Error: "supervisor: read job: " + err.Error()})
		return CodeFailed
	}
	caught := catch(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	c, failure := start(j.Spec, Stdio{}, 0)
	if failure != nil {
		json.NewEncoder(tell).Encode(report{Code: failure.Code, Error: failure.Error()})
		return failure.Code
	}
	// Not waited for by anybody else, it has a start time even if it has ended.
	begun, _, _ := stat(c.pid)
	json.NewEncoder(tell).Encode(report{PID: c.pid, Start: begun})
	tell.Close()
	return finish(j.Exit, c, caught)
}

func readJob(j *job) error {
	f := os.NewFile(jobFD, "job")
	defer f.Close()
	return json.NewDecoder(f).Decode(j)
}

// finish waits for the command and writes the exit file.
func finish(exitFile string, c *child, caught signals) int {
	for {
		select {
		case s := <-caught.c:
			if s == unix.SIGTERM {
				c.signal(unix.SIGTERM)
			}
		case status := <-c.ended:
			if err := writeExit(exitFile, Exit{status.Code, status.Signal, time.Now()}); err != nil {
				os.Stderr.WriteString("sealane: " + err.Error() + "\n")
				return CodeFailed
			}
			return 0
		}
	}
}

// writeExit makes the file in one step: a reader finds all of it or none.
func writeExit(path string, e Exit) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, append(data, '\n'), 0o640); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
