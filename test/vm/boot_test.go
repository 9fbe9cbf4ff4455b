package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/lab"
)

// Where the guest finds what the machine shares with it.
const (
	guestBin    = "/mnt/bin"
	guestOut    = "/mnt/out"
	guestSource = "/mnt/source"
)

// boot is the guest's process 1: it furnishes the guest, runs the programs and
// switches off.
func boot() int {
	err := furnish()
	if err == nil {
		err = runAll(strings.Split(os.Getenv("SEALANE_VM_RUN"), ","))
	}
	if err != nil {
		fmt.Println("guest:", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	return 1 // not reached
}

// furnish loads modules, puts the machine's files under a layer that can be
// written to, and goes there.
func furnish() error {
	modules, err := filepath.Glob("/" + modulesDir + "/*") // sorted
	if err != nil {
		return err
	}
	for _, m := range modules {
		if err := load(m); err != nil {
			return fmt.Errorf("load module %s: %w", m, err)
		}
	}
	for _, m := range mounts {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.dir, m.fstype, 0, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
		for _, d := range m.make {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
	}
	return enter("/root")
}

func load(module string) error {
	f, err := os.Open(module)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// Options of a share: with a cache for what only the guest can change.
const (
	cached = "trans=virtio,version=9p2000.L,msize=512000,cache=loose"
	direct = "trans=virtio,version=9p2000.L,msize=512000,cache=none"
)

// mounts are made in this order.
var mounts = []struct {
	source, dir, fstype, data string
	make                      []string // directories, afterwards
}{
	{"tmpfs", "/layer", "tmpfs", "", []string{"/layer/upper", "/layer/work"}},
	{"root", "/lower", "9p", cached, nil},
	{"overlay", "/root", "overlay", "lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work", nil},
	{"proc", "/root/proc", "proc", "", nil},
	{"sysfs", "/root/sys", "sysfs", "", nil},
	{"cgroup2", "/root/sys/fs/cgroup", "cgroup2", "", nil},
	{"bpf", "/root/sys/fs/bpf", "bpf", "", nil},
	{"devtmpfs", "/root/dev", "devtmpfs", "", []string{"/root/dev/pts", "/root/dev/shm"}},
	{"devpts", "/root/dev/pts", "devpts", "ptmxmode=0666", nil},
	{"tmpfs", "/root/dev/shm", "tmpfs", "", nil},
	{"tmpfs", "/root/run", "tmpfs", "mode=755", []string{"/root/run/lock", "/root/run/netns"}},
	{"tmpfs", "/root/tmp", "tmpfs", "mode=1777", nil},
	{"tmpfs", "/root/var/lib", "tmpfs", "mode=755", nil},
	{"tmpfs", "/root/mnt", "tmpfs", "mode=755", nil},
	{"bin", "/root" + guestBin, "9p", cached, nil},
	{"source", "/root" + guestSource, "9p", cached, nil},
	{"out", "/root" + guestOut, "9p", direct, nil},
}

// enter makes a directory the root.
func enter(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}

// prepare brings what no program asks for by itself.
const prepare = `
modprobe -a virtio_net br_netfilter tun openvswitch
ip link set lo up
ln -sf /proc/self/fd /dev/fd
`

// runAll runs programs by their names.
func runAll(names []string) error {
	os.Clearenv()
	for k, v := range map[string]string{
		"PATH": guestBin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": "/root", "LANG": "C.UTF-8", "TMPDIR": "/tmp",
		"REQUIRE": "all", inGuest: "1", lab.EnvBin: guestBin,
	} {
		os.Setenv(k, v)
	}
	if out, err := exec.Command("bash", "-ec", prepare).CombinedOutput(); err != nil {
		return fmt.Errorf("prepare: %w\n%s", err, out)
	}
	var aside sync.WaitGroup
	defer aside.Wait()
	for _, p := range slices.Concat(programs, contests) {
		switch {
		case !slices.Contains(names, p.name):
		case p.aside:
			aside.Go(p.execute)
		default:
			p.execute()
		}
	}
	return nil
}

// execute runs a program in its package's directory and writes down how it
// ended. Where it cannot even start, the machine waits for it in vain and shows
// what is said here.
func (p program) execute() {
	log, err := os.Create(filepath.Join(guestOut, p.name+".log"))
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(guestBin, p.name+".test"), p.arguments()...)
	cmd.Dir = filepath.Join(guestSource, p.pkg)
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Println("guest:", err)
		return
	}
	status := fmt.Sprintln(cmd.ProcessState.ExitCode())
	if err := os.WriteFile(filepath.Join(guestOut, p.name+".status"), []byte(status), 0o644); err != nil {
		fmt.Println("guest:", err)
	}
}
