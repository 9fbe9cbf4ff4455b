package vm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// kernel is a kernel with its modules.
type kernel struct {
	image   string // path
	modules string // directory
}

// findKernel returns the last kernel in /boot that has modules.
func findKernel(t *testing.T) kernel {
	t.Helper()
	images, _ := filepath.Glob("/boot/vmlinuz-*")
	slices.Reverse(images)
	for _, image := range images {
		modules := filepath.Join("/lib/modules", strings.TrimPrefix(filepath.Base(image), "vmlinuz-"))
		if _, err := os.Stat(filepath.Join(modules, "modules.dep")); err != nil {
			continue
		}
		if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
			t.Fatal(err)
		}
		return kernel{image, modules}
	}
	t.Fatal("no kernel in /boot with its modules in /lib/modules (Debian: linux-image-amd64)")
	return kernel{}
}

// guest is a virtual machine and the directory it shares with this one:
//
//	bin/        what it runs, and the product
//	out/NAME.log, out/NAME.status   what came of it
type guest struct {
	t        *testing.T
	kernel   kernel
	dir      string
	root     string // of the module
	programs []program
	counted  bool // its one processor does an instruction in four nanoseconds by its clock, whatever the machine has time for
	console  console
	ended    chan struct{}
	hung     bool
}

func newGuest(t *testing.T, k kernel) *guest {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, kernel: k, dir: t.TempDir(), root: root, ended: make(chan struct{})}
	for _, d := range []string{"bin", "out"} {
		if err := os.Mkdir(filepath.Join(g.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	product, _ := filepath.Glob(os.Getenv(lab.EnvBin) + "/*")
	g.run("cp", append(append([]string{"-a"}, product...), filepath.Join(g.dir, "bin"))...)
	return g
}

// run runs a command in the module's root; it must work.
func (g *guest) run(name string, args ...string) {
	g.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = g.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		g.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// compile makes the binary of a program, which is then one to run.
func (g *guest) compile(p program) {
	g.t.Helper()
	build := []string{"test", "-c"}
	if p.rows != nil {
		build = []string{"build"}
	}
	g.run("go", append(build, "-ldflags", "-s -w", "-o", filepath.Join(g.dir, "bin", p.name+".test"), p.pkg)...)
	g.programs = append(g.programs, p)
}

// start boots the guest. It ends with the test at the latest.
func (g *guest) start() {
	g.t.Helper()
	initrd := filepath.Join(g.dir, "initrd")
	self := filepath.Join(g.dir, "init.test")
	g.run("go", "test", "-c", "-o", self, "./test/vm")
	if err := writeInitrd(initrd, self, g.kernel.modules); err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command("qemu-system-x86_64", g.arguments(initrd)...)
	cmd.Stdout, cmd.Stderr = &g.console, &g.console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the signal comes when the thread ends that started it
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(g.ended)
		}
	}()
	if err := <-started; err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { cmd.Process.Kill(); <-g.ended })
}

// arguments is the machine as qemu wants it.
func (g *guest) arguments(initrd string) []string {
	var names []string
	for _, p := range g.programs {
		names = append(names, p.name)
	}
	args := []string{
		"-machine", "q35,accel=tcg", "-cpu", "max", "-m", "2048",
		"-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
		"-kernel", g.kernel.image, "-initrd", initrd,
		// The kernel hands words it does not know on to init as environment.
		"-append", "console=ttyS0 loglevel=3 panic=-1 random.trust_cpu=on SEALANE_VM_RUN=" + strings.Join(names, ","),
	}
	if g.counted {
		args = append(args, "-smp", "1", "-icount", "shift=2")
	} else {
		args = append(args, "-smp", "2")
	}
	share := func(tag, dir, more string) {
		args = append(args, "-virtfs", fmt.Sprintf("local,id=%s,mount_tag=%s,path=%s,security_model=none,multidevs=remap%s", tag, tag, dir, more))
	}
	share("root", "/", ",readonly=on")
	share("source", g.root, ",readonly=on")
	share("bin", filepath.Join(g.dir, "bin"), ",readonly=on")
	share("out", filepath.Join(g.dir, "out"), "")
	for i := range nics {
		args = append(args, "-netdev", fmt.Sprintf("hubport,id=net%d,hubid=0", i),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net%d,mac=%s", i, nicMAC(i)))
	}
	return args
}

// nics is how many NICs the guest has: eth0 and so on, all on one wire.
const nics = 3

// nicMAC is the hardware address of a NIC of the guest.
func nicMAC(i int) string { return fmt.Sprintf("52:54:00:5e:a1:%02x", i) }

// await waits for a program to end and returns its exit status. A guest that
// hangs or dies fails the test with the last it said, and all after it.
func (g *guest) await(t *testing.T, p program) string {
	t.Helper()
	if g.hung {
		t.Fatal("the guest is not there any more")
	}
	limit := time.After(bootTimeout + programTimeout)
	for {
		if status, err := os.ReadFile(filepath.Join(g.dir, "out", p.name+".status")); err == nil && bytes.HasSuffix(status, []byte("\n")) {
			return strings.TrimSpace(string(status))
		}
		select {
		case <-time.After(100 * time.Millisecond):
			continue
		case <-g.ended:
			if _, err := os.Stat(filepath.Join(g.dir, "out", p.name+".status")); err == nil {
				continue
			}
			g.hung = true
			t.Error("the guest has stopped")
		case <-limit:
			g.hung = true
			t.Errorf("no end after %v", bootTimeout+programTimeout)
		}
		log, _ := os.ReadFile(filepath.Join(g.dir, "out", p.name+".log"))
		t.Fatalf("its last lines:\n%s\nthe console's:\n%s", tail(string(log), 40), tail(g.console.String(), 60))
	}
}

// console keeps what the guest says on its serial line.
type console struct {
	mu   sync.Mutex // protects the following
	text bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}
