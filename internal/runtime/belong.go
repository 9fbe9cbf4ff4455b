package runtime

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
)

// belongs reports whether a process is of the container with an ID. A runtime
// leaves a process's number in a file, where it stays when the runtime was killed
// and the number is another's.
//
// The ID is in the name of the process's cgroup, "docker-ID.scope" or "ID", or
// among the arguments of its parent, which watches over it: conmon, or
// containerd's shim.
func belongs(pid int, id string) bool {
	cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || id == "" {
		return false
	}
	if inCgroup(cgroups, id) {
		return true
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", parent(pid)))
	if err != nil {
		return false
	}
	for arg := range bytes.SplitSeq(args, []byte{0}) {
		if string(arg) == id {
			return true
		}
	}
	return false
}

// inCgroup reports whether a cgroup in a file as /proc/PID/cgroup is of a
// container, or below that of one (cgroups(7)).
func inCgroup(file []byte, id string) bool {
	for line := range bytes.Lines(file) {
		_, rest, _ := bytes.Cut(line, []byte(":"))
		_, at, _ := bytes.Cut(rest, []byte(":"))
		for name := range strings.SplitSeq(strings.TrimSpace(string(at)), "/") {
			name = strings.TrimSuffix(name, ".scope")
			if id != "" && (name == id || strings.HasSuffix(name, "-"+id)) {
				return true
			}
		}
	}
	return false
}

// parent returns the parent of a process, 0 if that is not known.
func parent(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	fields := statusOf(status, "PPid")
	if len(fields) != 1 {
		return 0
	}
	return fields[0]
}

// statusOf returns the numbers of a line of a file as /proc/PID/status
// (proc_pid_status(5)).
func statusOf(file []byte, key string) (numbers []int) {
	for line := range bytes.Lines(file) {
		value, ok := bytes.CutPrefix(line, []byte(key+":"))
		if !ok {
			continue
		}
		for field := range bytes.FieldsSeq(value) {
			n, err := strconv.Atoi(string(field))
			if err != nil {
				return nil
			}
			numbers = append(numbers, n)
		}
		return numbers
	}
	return nil
}

// readPID returns the process that a file names, and 0 if it names none, as one
// that is being written.
func readPID(file string) int {
	data, err := os.ReadFile(path.Clean(file))
	if err != nil {
		return 0
	}
	return parsePID(data)
}

func parsePID(data []byte) int {
	pid, err := strconv.Atoi(string(bytes.TrimSpace(data)))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}
