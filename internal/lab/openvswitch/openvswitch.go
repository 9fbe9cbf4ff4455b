// Package openvswitch is test-only: it runs the real Open vSwitch, Debian's
// openvswitch-switch, wherever a test can run a shell: both programs with
// sockets, database and files of their own.
package openvswitch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// The programs.
const (
	Server = "ovsdb-server"
	Switch = "ovs-vswitchd"
)

// OVS is one Open vSwitch.
type OVS struct {
	// Dir holds all its files, but the database if DB says where that is.
	Dir string
	DB  string
	// Bash runs a script where the programs shall run, and returns what it
	// prints.
	Bash func(script string) (string, error)
}

// Here returns one whose programs run in the calling thread's namespaces; which
// is to stay there. They end with the test, also when that is killed.
func Here(t testing.TB) OVS {
	t.Helper()
	dir := t.TempDir()
	guarded := sync.OnceValue(func() error { return guard(t, dir) })
	return OVS{Dir: dir, Bash: func(script string) (string, error) {
		if err := guarded(); err != nil {
			return "", fmt.Errorf("guard: %w", err)
		}
		cmd := exec.Command("bash", "-c", script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		return string(out), err
	}}
}

// guard ends the programs when the test does. They are daemons, nobody's children:
// what tells a process of its own that they are to go is a line, or the end of its
// input if the test was killed, which may have begun to start one.
func guard(t testing.TB, dir string) error {
	in, alive, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := exec.Command("bash", "-c", "read || sleep 1; for program in "+Switch+" "+Server+"; do\n"+
		`test "$(cat /proc/$(cat $0/$program.pid)/comm)" = $program && (`+end(`$0/$program.pid`, "KILL")+") done", dir)
	cmd.Stdin = in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // who ends the test may mean its whole group
	if err := cmd.Start(); err != nil {
		alive.Close()
		return err
	}
	t.Cleanup(func() {
		fmt.Fprintln(alive)
		alive.Close()
		_ = cmd.Wait() // nothing runs, or what ran has ended
	})
	return nil
}

// Socket is where the database is asked.
func (o OVS) Socket() string { return filepath.Join(o.Dir, "db.sock") }

func (o OVS) db() string {
	if o.DB != "" {
		return o.DB
	}
	return filepath.Join(o.Dir, "conf.db")
}

// env is what a script of ours begins with.
func (o OVS) env() string {
	return fmt.Sprintf("set -e; export OVS_RUNDIR=%[1]s OVS_LOGDIR=%[1]s OVS_DBDIR=%[1]s\n", o.Dir)
}

// Start starts programs, all without one being named, and returns when they can
// be used. The database that is there is taken.
func (o OVS) Start(programs ...string) error {
	all := len(programs) == 0
	if all || slices.Contains(programs, Server) {
		script := fmt.Sprintf(`mkdir -p %[1]s $(dirname %[2]s)
			test -e %[2]s || ovsdb-tool create %[2]s /usr/share/openvswitch/vswitch.ovsschema
			ovsdb-server %[2]s --remote=punix:%[3]s --pidfile --detach --no-chdir --log-file -vconsole:off
			ovs-vsctl --db=unix:%[3]s --no-wait init`, o.Dir, o.db(), o.Socket())
		if _, err := o.Bash(o.env() + script); err != nil {
			return fmt.Errorf("ovsdb-server: %w", err)
		}
	}
	if all || slices.Contains(programs, Switch) {
		script := fmt.Sprintf("ovs-vswitchd unix:%s --pidfile --detach --no-chdir --log-file -vconsole:off", o.Socket())
		if _, err := o.Bash(o.env() + script); err != nil {
			return fmt.Errorf("ovs-vswitchd: %w", err)
		}
	}
	return nil
}

// End sends a signal to a program and waits until it has ended, with all its
// threads: each of them holds its files open.
func (o OVS) End(program, signal string) error {
	_, err := o.Bash(end(fmt.Sprintf("%s/%s.pid", o.Dir, program), signal))
	return err
}

// end is a script that does that to the process in a file.
func end(pidfile, signal string) string {
	return fmt.Sprintf(`pid=$(cat %s) && kill -%s $pid || exit 1
		for i in $(seq 500); do
			threads=$(ls /proc/$pid/task 2>/dev/null | wc -l)
			test $threads = 0 && exit 0
			test $threads = 1 && grep -q '^State:.Z' /proc/$pid/status 2>/dev/null && exit 0
			sleep 0.01
		done; exit 1`, pidfile, signal)
}

// Ctl runs ovs-vsctl, which waits until what it asks for is done.
func (o OVS) Ctl(command string) (string, error) {
	return o.Bash(o.env() + fmt.Sprintf("ovs-vsctl --db=unix:%s --timeout=10 %s", o.Socket(), command))
}
