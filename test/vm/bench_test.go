package vm

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// contests are benchmarks against what only this kernel has: both sides are in the guest.
var contests = []program{
	{name: "ipvs", pkg: "./bench", rows: []string{"-only", "ipvs"}},
	{name: "ipvs-quick", pkg: "./bench", rows: []string{"-only", "ipvs", "-quick"}},
}

// What to measure, instead of tests.
var (
	bench = flag.String("bench", "", "run a benchmark in the guest, of this `name`, and no tests")
	rows  = flag.String("rows", "", "`file` that its rows are to go to, as JSON")
)

// choose has the machine run either the guest's tests or a benchmark. Those of NICs and of
// neighbours are for the guest.
func choose() {
	flag.Parse()
	if *bench != "" {
		flag.Set("test.run", "^TestContest$")
		return
	}
	flag.Set("test.skip", "^Test(NIC|NeighbourRoom$|Contest$)")
}

// arguments is what a program is started with in the guest.
func (p program) arguments() []string {
	if p.rows != nil {
		return append([]string{"-bin", guestBin, "-rows", filepath.Join(guestOut, rowsFile)}, p.rows...)
	}
	return []string{"-test.v", "-test.short", "-test.run=" + p.run, "-test.timeout=" + programTimeout.String()}
}

// rowsFile is what a benchmark leaves in the directory out.
const rowsFile = "rows.json"

// TestContest boots the guest and has it run a benchmark.
func TestContest(t *testing.T) {
	i := slices.IndexFunc(contests, func(p program) bool { return p.name == *bench })
	if i < 0 {
		t.Fatalf("%s: no such benchmark", *bench)
	}
	g := newGuest(t, findKernel(t))
	g.counted = true
	g.compile(contests[i])
	g.start()
	status := g.await(t, contests[i])
	log, err := os.ReadFile(filepath.Join(g.dir, "out", *bench+".log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", log)
	if status != "0" {
		t.Fatalf("exit status %s", status)
	}
	text, err := os.ReadFile(filepath.Join(g.dir, "out", rowsFile))
	if err == nil && *rows != "" {
		err = os.WriteFile(*rows, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
