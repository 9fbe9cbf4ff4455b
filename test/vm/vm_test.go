// Package vm runs tests on another kernel than the machine's: it boots Debian's
// (package linux-image-amd64) in qemu, without hardware support for it, and
// runs there what needs features that kernels of small machines lack.
//
//	the machine                      the guest
//	┌──────────────────────┐        ┌───────────────────────────────────────────┐
//	│ go test ./test/vm    │        │ /init: this test binary again, as process 1│
//	│   table of programs  │ serial │   runs each program of the table           │
//	│   qemu ──────────────┼────────┤ /      the machine's files; writes go to   │
//	│ /usr, /lib/modules … │   9p   │        memory                              │
//	│ bin/ out/            │   9p   │ eth0 eth1 eth2: virtio NICs on one wire    │
//	└──────────────────────┘        └───────────────────────────────────────────┘
//
// The initramfs holds the test binary and the modules for 9p and overlays,
// nothing else. The network of the guest ends at its wire.
//
// With -args -bench NAME it runs a benchmark instead, which go run ./bench makes use of.
package vm

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/flanneld"
)

// program is a test binary that the guest runs.
type program struct {
	name  string   // of the subtest and of the binary
	pkg   string   // of the module
	run   string   // -test.run; all tests if empty
	aside bool     // runs beside the others: it takes long, in namespaces of its own
	rows  []string // arguments, where it is no test but the benchmarks
}

// programs is what runs in the guest: all that meets the kernel and may find
// another one there, and what this kernel was booted for. A test that wants
// speed has no place here: the guest's processors are some twenty times slower.
var programs = []program{
	{name: "kernel", pkg: "./internal/kernel/linux", run: "^TestConformance$", aside: true},
	{name: "feature", pkg: "./internal/feature"},
	{name: "probe", pkg: "./internal/kernel/probe"},
	{name: "choice", pkg: "./internal/kernel/bpf", run: "^Test(Socket|Choice|Chooser|Flows|NoRoom|HookOfAnother|FirstData|Refused)"},
	{name: "shortcut", pkg: "./internal/serve/udptun", run: "^Test(Shortcut|Spoofed|MTU|Errors)"},
	{name: "nic", pkg: "./test/vm", run: "^TestNIC"},
	{name: "neighbours", pkg: "./test/vm", run: "^TestNeighbourRoom$"},
	{name: "lane", pkg: "./test", run: "InLanes$"},
	{name: "docker", pkg: "./test/docker", run: "^TestOtherKernel$", aside: true},
	{name: "wireguard", pkg: "./internal/serve/wireguard", run: "^TestKeeper/^native$"},
	{name: "encrypted", pkg: "./test", run: "^TestScripts$/^fabric-wireguard$"},
	{name: "flanneld", pkg: "./test", run: "^TestFlanneld$/^wireguard"},
	{name: "script", pkg: "./test", run: "^TestScripts$/^(vlan|macvlan-vlan|ipvlan|pipework-vlan|ovs-vlans|ovs-heals|port-forms|teardown)"},
}

// only chooses programs while working on one.
var only = flag.String("only", "", "run only programs whose name matches this `regexp`")

// bootTimeout is how long the guest may take until its first program runs, and
// programTimeout until one ends, on a machine that has no time for it.
const (
	bootTimeout    = 60 * time.Second
	programTimeout = 15 * time.Minute
)

// inGuest is set where the guest runs this package.
const inGuest = "SEALANE_VM_GUEST"

func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		os.Exit(boot())
	}
	if os.Getenv(inGuest) == "" {
		choose()
	}
	lab.Main(m, "sealane", "sealane-cni", "sealaned")
}

// TestGuest boots the guest and reports what its programs report.
func TestGuest(t *testing.T) {
	kernel := findKernel(t)
	g := newGuest(t, kernel)
	chosen := regexp.MustCompile(*only)
	for _, p := range programs {
		if chosen.MatchString(p.name) {
			g.compile(p)
		}
		if p.name == flanneld.Name && chosen.MatchString(p.name) {
			flanneld.Build(t, filepath.Join(g.dir, "bin", flanneld.Name))
		}
	}
	g.start()
	slices.SortStableFunc(g.programs, func(a, b program) int { return order(a) - order(b) })
	for _, p := range g.programs {
		t.Run(p.name, func(t *testing.T) { g.judge(t, p) })
	}
}

// order puts what runs aside last.
func order(p program) int {
	if p.aside {
		return 1
	}
	return 0
}

// skipped finds tests that did not run.
var skipped = regexp.MustCompile(`(?m)^\s*--- SKIP: .*(?:\n\s+.*_test\.go:.*)*`)

// judge fails the test if the program did, or left something out.
func (g *guest) judge(t *testing.T, p program) {
	status := g.await(t, p)
	log, err := os.ReadFile(filepath.Join(g.dir, "out", p.name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	if status != "0" {
		t.Errorf("exit status %s\n%s", status, failures(string(log)))
	}
	if s := skipped.FindAllString(string(log), -1); s != nil {
		t.Errorf("skipped:\n%s", strings.Join(s, "\n"))
	}
	t.Logf("%d tests", strings.Count(string(log), "--- PASS:"))
}

// failed finds tests that failed, and about where it is said what a test prints.
var (
	failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	about  = regexp.MustCompile(`(?m)^=== (?:RUN|NAME|CONT|PAUSE) +(\S*)\n`)
)

// failures returns what the tests printed that failed, and the end of a log.
func failures(log string) string {
	bad := map[string]bool{}
	for _, m := range failed.FindAllStringSubmatch(log, -1) {
		bad[m[1]] = true
	}
	var out strings.Builder
	places := about.FindAllStringSubmatchIndex(log, -1)
	for i, at := range places {
		if i+1 < len(places) && bad[log[at[2]:at[3]]] {
			out.WriteString(log[at[0]:places[i+1][0]])
		}
	}
	return out.String() + tail(log, 40)
}

// tail returns the last lines of a text.
func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
