// Command bench measures Sealane against what a user would pick instead, in one
// run, and prints a table with a target and a verdict per row.
//
// The rules:
//
//   - Whoever is compared runs in turn in one process, as pairs in the order
//     AB BA AB …; the first pair is thrown away. What counts is the median of
//     the pairs' ratios, with a bootstrapped 95 % interval.
//   - Before and after each run a fixed piece of arithmetic is timed. A pair is
//     dropped if that took more than 15 % longer than usual on the machine, or
//     the hypervisor stole more than 1 % of the time. The table says how many
//     were dropped. Where more than half would be, all are kept and marked ~.
//   - What takes Docker many seconds is one pair, and none is thrown away.
//   - Each contestant has a host of its own: network, mount and process
//     namespaces with empty /run and /var/lib, furnished by this program started
//     again. Namespaces to attach are made ahead and not timed. Before the next
//     run starts, the devices of the one before are gone.
//   - Ours is the real daemon over its socket, with the Go client that the
//     command line uses too. The daemon has its default settings. A call that
//     does nothing has a row of its own.
//   - Docker is Debian's dockerd over its socket, with its default settings
//     where nothing else is said; its store is on tmpfs too.
//   - The servers behind published ports are threads of this program in the
//     container's or sandbox's namespace, on processor 1; the clients are on
//     processor 0, in another namespace behind a veth. docker-proxy may use both.
//   - IPVS, where the machine's kernel has none, is measured on Debian's in a
//     virtual machine that this program boots, as `make test-vm` does; both
//     contestants are in it. Its clock counts the instructions of its only
//     processor, so what the machine does meanwhile changes nothing; what an
//     instruction costs on a real one, a miss of a cache say, it does not know.
//
// What is excluded, or not fair: the start of a command line (but see the last
// row), images and container runtimes. The daemon's store is on tmpfs, as the
// CNI plugins' is, which do not sync to disk what they store; -disk shows what
// syncing costs. CNI plugins are executed for each call, as their users do;
// they keep no memory, we do. The bridge plugin is measured with as little as it
// can do, without masquerading, and in a row of its own as Podman configures it.
// Our devices go after the answer; rows that end in "gone" count them. From what
// Docker takes to run a container with ports, what one without them takes is
// subtracted. Both ends of a throughput row share the machine's processors.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// measure is a group of rows.
type measure struct {
	name string
	run  func(*bench) error
}

// measures are in the order of the table.
var measures = []measure{
	{"attach", attachRows},
	{"crowd", crowdRows},
	{"detach", detachRows},
	{"publish", publishRows},
	{"throughput", throughputRows},
	{"connect", connectRows},
	{"cni", pluginRows},
	{"run", runRows},
	{"range", rangeRows},
	{"port", portRows},
	{"proxy", proxyRows},
	{"latency", latencyRows},
	{"scale", scaleRows},
	{"dns", dnsRows},
	{"pipework", pipeworkRows},
	{"startup", startupRows},
	{"fabric", fabricRows},
	{"wireguard", wireguardRows},
	{"overlay", overlayRows},
	{"mesh", meshRows},
	{"ipvs", ipvsRows},
}

// bench is one run: what to build upon, how much to do, and the table so far.
type bench struct {
	ctx   context.Context // ends when the user has had enough
	bin   string          // directory of the binaries
	built bool            // they were there already
	disk  string          // directory for the daemons' stores, "" for the hosts' tmpfs
	quick bool
	table table
}

// times is how often to repeat something: n, or a few with -quick.
func (b *bench) times(n int) int {
	if b.quick {
		return max(n/8, 3)
	}
	return n
}

func main() {
	if roles(os.Args) {
		return
	}
	var names []string
	for _, m := range measures {
		names = append(names, m.name)
	}
	quick := flag.Bool("quick", false, "few repetitions: whether it works, not how fast it is")
	only := flag.String("only", "", "comma-separated groups of rows: "+strings.Join(names, " "))
	disk := flag.Bool("disk", false, "keep the daemon's store on disk, under the temporary directory")
	bin := flag.String("bin", "", "`directory` of binaries to measure, which are not built then: in a guest")
	rows := flag.String("rows", "", "write the rows to this `file` too, as JSON")
	flag.Parse()
	b := &bench{bin: *bin, built: *bin != "", quick: *quick}
	if err := b.all(*disk, *rows, strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// all prepares, measures and prints the table.
func (b *bench) all(disk bool, rows string, only []string) error {
	for _, name := range only {
		if !slices.ContainsFunc(measures, func(m measure) bool { return m.name == name }) {
			return fmt.Errorf("%s: no such group of rows", name)
		}
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root: it makes namespaces and devices")
	}
	dir, err := os.MkdirTemp("", "sealane-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var stop context.CancelFunc
	b.ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	where := "tmpfs (-disk: on disk)"
	if disk {
		b.disk, where = dir, "disk"
	}
	if !b.built {
		b.bin = dir
		if err := build(dir); err != nil {
			return err
		}
	}
	fmt.Printf("%s, the daemon's store on %s\n", machine(), where)
	err = b.measure(only)
	b.table.print(os.Stdout)
	if err == nil && rows != "" {
		err = b.table.write(rows)
	}
	return err
}

// measure measures all groups, or some.
func (b *bench) measure(only []string) error {
	for _, m := range measures {
		if len(only) > 0 && !slices.Contains(only, m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", m.name)
		if err := m.run(b); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}
