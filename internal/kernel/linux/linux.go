// Package linux is the real kernel: it puts together what reads and writes
// namespaces, links, addresses, routes, settings, held ports, nftables and
// files, behind the one interface. It has no knowledge of its own of how any
// of them is done, but for the files.
package linux

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/bpf"
	"github.com/sealane/sealane/internal/kernel/conntrack"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kernel/nft"
	"github.com/sealane/sealane/internal/kernel/ovsdb"
	"github.com/sealane/sealane/internal/kernel/rtnl"
	"github.com/sealane/sealane/internal/kernel/sysctl"
	"github.com/sealane/sealane/internal/kernel/xtables"
	"github.com/sealane/sealane/internal/kstate"
)

// Config is what a kernel needs to know.
type Config struct {
	// RunDir holds what lives until the next boot: netns/ the namespaces of
	// ours, bpf/ the holds, sandboxes/ the files.
	RunDir  string
	Journal journal.Journal
	OVSDB   string // the socket of Open vSwitch's database; "" is the usual one
}

// part is one of the things a kernel is put together from.
type part interface {
	applier
	Observe() ([]kstate.Object, error)
}

// applier carries out ops of some kinds. Its errors are *kernel.OpError, joined
// in the order of ops.
type applier interface{ Apply([]kstate.Op) error }

// watcher says in a few words that something changed.
type watcher interface {
	Watch(context.Context) (<-chan string, error)
}

// Linux is the kernel of the network namespace it was opened in.
type Linux struct {
	host    *netns.Handle
	dir     netns.Dir
	links   *rtnl.Conn
	rules   *nft.Conn
	ovs     *ovsdb.Conn
	holds   *bpf.Holder
	chooser *bpf.Choosers
	parts   []part // all that belong to the host alone
	devices []part // those of parts that have devices
	kinds   map[kstate.Kind]applier
	watched []watcher
	flows   *conntrack.Table
	closers []func() error

	mu sync.Mutex // one Apply at a time: they would only wait for the kernel's own lock
}

var _ kernel.Kernel = (*Linux)(nil)

// Open opens the network namespace of the calling thread as the host's. It
// changes nothing but our directories under RunDir; devices that a former
// process left to be reaped are.
func Open(c Config) (*Linux, error) {
	l := &Linux{}
	if err := l.open(c); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Linux) open(c Config) (err error) {
	if l.host, err = netns.Current(); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	l.closers = append(l.closers, l.host.Close)
	l.dir = netns.Dir(filepath.Join(c.RunDir, "netns"))
	if l.links, err = rtnl.Open(l.host, l.dir, c.Journal); err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	l.closers = append(l.closers, l.links.Close)
	rules, err := nft.Open(l.host.FD())
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	l.rules = rules
	l.closers = append(l.closers, rules.Close)
	holds, err := bpf.Open(filepath.Join(c.RunDir, "bpf"))
	if err != nil {
		return fmt.Errorf("held ports: %w", err)
	}
	l.closers = append(l.closers, holds.Close)
	if l.chooser, err = bpf.NewChoosers(filepath.Join(c.RunDir, "bpf"), holds); err != nil {
		return err
	}
	l.closers = append(l.closers, l.chooser.Close)
	if l.flows, err = conntrack.Open(); err != nil {
		return err
	}
	l.closers = append(l.closers, l.flows.Close)
	settings, texts := sysctl.New(c.Journal, l.host.Do), files{filepath.Join(c.RunDir, "sandboxes")}
	l.holds = holds
	ports := &reserving{holds: holds, journal: c.Journal, inside: l.host.Do}
	if err := ports.start(); err != nil {
		return fmt.Errorf("reserved ports: %w", err)
	}
	switches := ovsdb.New(cmp.Or(c.OVSDB, ovsdb.Socket), l.host.Inode(), l.number)
	switches.Tap = l.tap
	l.ovs = switches
	l.closers = append(l.closers, switches.Close)
	l.parts, l.devices = []part{settings, ports, rules, texts, switches}, []part{switches}
	l.watched = []watcher{l.links, rules, switches}
	l.kinds = map[kstate.Kind]applier{
		kstate.KindNetNS: spaces{l.dir, l.links}, kstate.KindSysctl: settings,
		kstate.KindRaise: l.links, kstate.KindTrunk: l.links, kstate.KindLink: l.links, kstate.KindAddr: l.links, kstate.KindRoute: l.links, kstate.KindRule: l.links,
		kstate.KindNeigh: l.links, kstate.KindFDB: l.links,
		kstate.KindShaper: l.links, kstate.KindRedirect: l.links,
		kstate.KindOVSBridge: switches, kstate.KindOVSPort: switches,
		kstate.KindHold: ports, kstate.KindFile: texts,
		kstate.KindTable: rules, kstate.KindSet: rules, kstate.KindChain: rules, kstate.KindElem: rules,
		kstate.KindGuest: nft.Guests{Conn: rules}, kstate.KindChoice: l.chooser, kstate.KindChooser: l.chooser,
	}
	return nil
}

// Close lets everything go; what was made stays. It waits until removed devices
// are gone.
func (l *Linux) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i]())
	}
	l.closers = nil
	return errors.Join(errs...)
}

// Apply carries ops out in runs of neighbours that belong to one part: a run of
// nftables ops is one transaction, one of links, addresses and routes one
// system call per namespace. Some take long where there is much of them, and stand on
// nothing of each other's (apart): a long run is carried out beside those that follow.
// UDP flows whose translation changed are forgotten a moment later.
func (l *Linux) Apply(ctx context.Context, ops []kstate.Op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.flows.Changed(ops)
	all := ops
	var errs []error
	for len(ops) > 0 {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		runs := l.beside(ops)
		failed := make([]error, len(runs))
		var others sync.WaitGroup
		for i, r := range runs[1:] {
			others.Go(func() { failed[1+i] = r.to.Apply(r.ops) })
		}
		l.ovs.LetGo(newLinks(runs[0].ops)...)
		failed[0] = runs[0].to.Apply(runs[0].ops)
		others.Wait()
		if runs[0].to == l.ovs {
			failed[0] = orphaned(failed[0], all)
		}
		errs = append(errs, failed...)
		for _, r := range runs {
			ops = ops[len(r.ops):]
		}
	}
	return errors.Join(errs...)
}

// many is from how many ops on a run is long.
const many = 1024

// series is a run: ops in a row that one part carries out.
type series struct {
	to  applier
	ops []kstate.Op
}

// apart reports whether an object may come and go beside those of other parts that do: what
// nftables has, what sockets choose from, and where neighbours are.
func apart(k kstate.Kind) bool {
	return k >= kstate.KindTable && k <= kstate.KindElem || k == kstate.KindChoice || k == kstate.KindChooser || neighbour(k)
}

func neighbour(k kstate.Kind) bool { return k == kstate.KindNeigh || k == kstate.KindFDB }

// beside returns the first run of some ops and, if that is long, those after it that are
// carried out at the same time.
func (l *Linux) beside(ops []kstate.Op) (runs []series) {
	for len(ops) > 0 {
		to, n := l.run(ops)
		if to == applier(l.links) {
			n = neighbours(ops[:n])
		}
		lone := !apart(kindOf(ops[0]))
		if len(runs) > 0 && (lone || slices.ContainsFunc(runs, func(r series) bool { return r.to == to })) {
			break
		}
		if runs = append(runs, series{to, ops[:n]}); lone || n < many {
			break
		}
		ops = ops[n:]
	}
	return runs
}

// neighbours returns where a run of links, addresses and routes is cut, so that many
// neighbours are one of their own: where they begin or, if they come first, where they end.
func neighbours(ops []kstate.Op) int {
	from := slices.IndexFunc(ops, func(op kstate.Op) bool { return neighbour(kindOf(op)) })
	if from < 0 {
		return len(ops)
	}
	to := from
	for to < len(ops) && (to > from && alike(ops[to-1], ops[to]) || neighbour(kindOf(ops[to]))) {
		to++
	}
	switch {
	case to-from < many:
		return len(ops)
	case from > 0:
		return from
	}
	return to
}

// run returns the part that the first op belongs to, and how many in a row do.
func (l *Linux) run(ops []kstate.Op) (applier, int) {
	to := l.kinds[kindOf(ops[0])]
	n := 1
	for n < len(ops) && (alike(ops[n-1], ops[n]) || l.kinds[kindOf(ops[n])] == to) {
		n++
	}
	if to == nil {
		return unknown{}, n
	}
	return to, n
}

// newLinks are the names of devices that ops make.
func newLinks(ops []kstate.Op) (names []string) {
	for _, op := range ops {
		if l, ok := op.New.(kstate.Link); ok && op.Old == nil {
			names = append(names, l.Name)
		}
	}
	return names
}

// alike reports whether two ops are about objects of one type, which are of one kind. To ask
// for the kind of each of many takes long.
func alike(a, b kstate.Op) bool { return reflect.TypeOf(a.Object()) == reflect.TypeOf(b.Object()) }

func kindOf(op kstate.Op) kstate.Kind { return op.Object().Key().Kind }

// unknown refuses kinds that no part knows.
type unknown struct{}

// Apply refuses all.
func (unknown) Apply(ops []kstate.Op) error {
	return each(ops, func(kstate.Op) error { return kernel.ErrUnsupported })
}

// each carries out ops one by one, with failures as applier has them.
func each(ops []kstate.Op, do func(kstate.Op) error) error {
	var errs []error
	for _, op := range ops {
		if err := do(op); err != nil {
			errs = append(errs, &kernel.OpError{Op: op, Err: err})
		}
	}
	return errors.Join(errs...)
}

// Observe asks all parts.
func (l *Linux) Observe(ctx context.Context, scope kernel.Scope) (kstate.Set, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	set := kstate.Set{}
	objs, err := l.links.Observe(ctx, scope)
	if err != nil {
		return nil, fmt.Errorf("observe: %w", err)
	}
	put(set, objs)
	if scope.Only {
		return set, nil
	}
	parts := l.parts
	if scope.Devices {
		parts = l.devices
	}
	for _, p := range parts {
		objs, err := p.Observe()
		if err != nil {
			return nil, fmt.Errorf("observe: %w", err)
		}
		put(set, objs)
	}
	if scope.Devices {
		return set, nil
	}
	if objs, err = l.chooser.Observe(cookies(set)); err != nil {
		return nil, fmt.Errorf("observe: %w", err)
	}
	put(set, objs)
	return set, nil
}

// cookies are the namespaces that are in a set, by their cookies.
func cookies(set kstate.Set) map[uint64]kstate.NS {
	out := map[uint64]kstate.NS{}
	for _, o := range set {
		if n, ok := o.(kstate.NetNS); ok && n.Cookie != 0 {
			out[n.Cookie] = n.NS
		}
	}
	return out
}

// Flows lists the connections that are sent elsewhere than was asked, by the host or by
// sockets of containers that have chosen, those of TCP while they are open.
func (l *Linux) Flows() ([]kernel.Flow, error) {
	rewritten, err := conntrack.Flows()
	chosen, failed := l.chooser.Flows()
	return append(rewritten, chosen...), errors.Join(err, failed)
}

// HandedOver forgets flows to ports that services came to have, where they are sent elsewhere.
func (l *Linux) HandedOver(all []kernel.Handover) { l.flows.HandedOver(all) }

// WhyNoChoice says why sockets of containers cannot choose among the backends of a service,
// see kstate.Choice; nil: they can.
func (l *Linux) WhyNoChoice() error { return l.chooser.Why() }

// Spare says at which port the daemon's proxy listens, which is in nobody's way.
func (l *Linux) Spare(port uint16) { l.holds.Spare(port) }

// Filters returns what others filter of the packets that pass the host or go to
// it, in no order. It reads all rules of the tables concerned: 3 µs for each.
func (l *Linux) Filters(ctx context.Context) ([]kstate.Filter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out, err := l.rules.Filters()
	if err != nil {
		return nil, fmt.Errorf("filters of others: %w", err)
	}
	legacy, err := xtables.Filters(kstate.Mark)
	if err != nil {
		return nil, fmt.Errorf("filters of others: %w", err)
	}
	return append(out, legacy...), nil
}

// put adds objects. Of two with one key, like routes that differ in what we do
// not look at, the later stays.
func put(set kstate.Set, objs []kstate.Object) {
	for _, o := range objs {
		set[o.Key()] = o
	}
}
