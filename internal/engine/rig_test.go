package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/store"
)

// TestMain puts files into memory: the store syncs every commit, and these tests
// kill processes, not disks.
func TestMain(m *testing.M) {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		os.Setenv("TMPDIR", memory)
	}
	os.Exit(m.Run())
}

// rig is an engine on a fake kernel and a real store. The kernel and the store
// outlive the engine's process, which may be killed at any step of either.
type rig struct {
	*testing.T
	ctx     context.Context
	e       *Engine
	k       *fake.Kernel
	store   *store.Store
	path    string
	runDir  string
	proc    *process
	inn     *inn
	given   []kstate.Object // what others have besides foreign
	cmds    *commands
	quiet   bool // the kernel gives no hints
	ports   int  // of calls of PortsChanged
	cfg     Config
	said    DefaultNetwork    // the daemon's settings
	crowd   int               // endpoints per bridge
	bridged bool              // bridged packets pass the firewall
	before  map[string]string // the journal's entries, as they must be
}

// What others have on the host.
var (
	uplink  = kstate.Link{Name: "eth0", MTU: 1450, Up: true}
	lan     = kstate.Link{Name: "br0", Type: kstate.TypeBridge, MTU: 1400, Up: true}
	plain   = kstate.Link{Name: "dummy0", Up: true}
	givenNS = kstate.NS{Path: "/run/netns/given"}
	foreign = []kstate.Object{
		uplink, lan, plain, kstate.NetNS{NS: givenNS},
		kstate.Addr{Dev: "eth0", Prefix: netip.MustParsePrefix("198.51.100.9/24"), Other: true},
		kstate.Addr{Dev: "br0", Prefix: netip.MustParsePrefix("10.9.0.7/28"), Other: true},
		kstate.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("198.51.100.1"), Dev: "eth0"},
		kstate.Route{Dst: netip.MustParsePrefix("203.0.113.0/24"), Dev: "dummy0"},
	}
)

// newRig returns a rig whose engine has started on an empty store.
func newRig(t *testing.T) *rig {
	r := bare(t)
	r.quiet = true
	r.start()
	return r
}

// bare returns a rig without an engine.
func bare(t *testing.T) *rig {
	dir := t.TempDir()
	r := &rig{T: t, ctx: t.Context(), path: filepath.Join(dir, "state.db"), runDir: filepath.Join(dir, "run"), cmds: &commands{}, before: map[string]string{}, crowd: 2}
	r.open()
	r.k = fake.New(ledger{r})
	r.k.Foreign(foreign...)
	r.inn = newInn(r)
	r.sshd()
	t.Cleanup(func() {
		if r.e != nil {
			r.e.Close()
		}
		r.store.Close()
	})
	return r
}

func (r *rig) sshd() {
	r.Helper()
	must[func()](r)(r.k.Listen("tcp", netip.MustParseAddrPort("0.0.0.0:22"), "sshd"))
}

func (r *rig) open() {
	r.Helper()
	s, err := store.Open(r.path)
	if err != nil {
		r.Fatal(err)
	}
	r.store = s
}

// start makes a new process with an engine and starts it.
func (r *rig) start() {
	r.Helper()
	r.prepare()
	if err := r.e.Start(r.ctx); err != nil && !r.proc.gone() {
		r.Fatal(err)
	}
}

func (r *rig) prepare() {
	r.proc = &process{rig: r, wait: make(chan struct{})}
	tick := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	r.cfg = Config{
		SocketsChoose: true, Kernel: door{r.proc}, Store: vault{r.proc}, Processes: r.cmds, RunDir: r.runDir, ProxyPort: 5353, ShardPorts: r.crowd, Default: r.said,
		PortsChanged: func() { r.ports++ }, Guests: r.inn, LinkLocals: func() []netip.Addr { return nil },
		Host: func() Host {
			return Host{BridgeNetfilter: r.bridged, AcceptRA: []string{"eth0"}, Resolv: model.DNS{Servers: []netip.Addr{netip.MustParseAddr("198.51.100.53")}}}
		},
		Now: func() time.Time { mu.Lock(); defer mu.Unlock(); tick = tick.Add(time.Millisecond); return tick },
		Log: slog.New(slog.DiscardHandler),
	}
	r.e = New(r.cfg)
}

// die abandons the process at once, and opens the store again as a new one
// would.
func (r *rig) die() {
	r.proc.kill()
	r.e.Close()
	r.store.Close()
	r.open()
	r.k.Revive()
}

// restart is a crash and a new start.
func (r *rig) restart() {
	r.Helper()
	r.die()
	r.start()
}

// ledger is the journal of whatever store is open.
type ledger struct{ r *rig }

func (l ledger) Put(key, before string) error        { return l.r.store.Put(key, before) }
func (l ledger) Erase(key string) error              { return l.r.store.Erase(key) }
func (l ledger) Entries() (map[string]string, error) { return l.r.store.Entries() }

var (
	errRefused = errors.New("refused by the test")
	errDead    = errors.New("this process is dead")
)

// process is what one process may do to kernel and store before it dies.
type process struct {
	rig *rig

	mu     sync.Mutex // protects the following
	dead   bool
	doomed bool               // dies after the next commit
	looks  int                // of Observe
	look   func(kernel.Scope) // called before each
	groups []group            // of ops that were applied
	ops    int                // seen so far
	refuse func(n int, op kstate.Op) bool
	commit func(n int) error // says what becomes of a commit
	n      int               // commits so far

	order order // of the next commit and the apply beside it
	wait  chan struct{}
}

// group is ops that happen together, and the kernel's steps they took.
type group struct{ from, to int }

// order says which of a commit to the store and the ops beside it is first.
type order string

const (
	racing      order = ""
	storeFirst  order = "store first"
	kernelFirst order = "kernel first"
)

func (p *process) gone() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.dead }
func (p *process) kill()      { p.mu.Lock(); defer p.mu.Unlock(); p.dead = true }

func (p *process) refuseAt(f func(n int, op kstate.Op) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse, p.ops = f, 0
}

func (p *process) commits(f func(n int) error) { p.mu.Lock(); defer p.mu.Unlock(); p.commit = f }

// passes counts how often the process looked at the kernel.
func (p *process) passes() int { p.mu.Lock(); defer p.mu.Unlock(); return p.looks }

// beforeLook has f called before each Observe.
func (p *process) beforeLook(f func(kernel.Scope)) { p.mu.Lock(); defer p.mu.Unlock(); p.look = f }

// mortal lets the process die after the commit that is under way.
func (p *process) mortal() { p.mu.Lock(); defer p.mu.Unlock(); p.doomed = true }

// arm sets the order of the next commit and apply.
func (p *process) arm(o order) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.order, p.wait = o, make(chan struct{})
}

// turn waits until the other of commit and apply is done, if it is to be first.
func (p *process) turn(mine order) (done func()) {
	p.mu.Lock()
	o, wait := p.order, p.wait
	p.mu.Unlock()
	switch o {
	case racing:
	case mine:
		return sync.OnceFunc(func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.order = racing
			close(wait)
		})
	default:
		<-wait
	}
	return func() {}
}

// door is the kernel as the process sees it.
type door struct{ *process }

func (d door) Observe(ctx context.Context, s kernel.Scope) (kstate.Set, error) {
	if d.gone() {
		return nil, errDead
	}
	d.mu.Lock()
	d.looks++
	look := d.look
	d.mu.Unlock()
	if look != nil {
		look(s)
	}
	return d.rig.k.Observe(ctx, s)
}

func (d door) Filters(ctx context.Context) ([]kstate.Filter, error) {
	if d.gone() {
		return nil, errDead
	}
	return d.rig.k.Filters(ctx)
}

func (d door) Watch(ctx context.Context) (<-chan kernel.Hint, error) {
	if d.rig.quiet {
		ch := make(chan kernel.Hint)
		context.AfterFunc(ctx, func() { close(ch) })
		return ch, nil
	}
	return d.rig.k.Watch(ctx)
}

func (d door) Apply(ctx context.Context, ops []kstate.Op) error {
	done := d.turn(kernelFirst)
	defer done()
	var errs []error
	for len(ops) > 0 {
		n := 1
		for isNft(ops[0]) && n < len(ops) && isNft(ops[n]) {
			n++
		}
		if err := d.one(ctx, ops[:n]); errors.Is(err, errDead) {
			return err
		} else if err != nil {
			errs = append(errs, err)
		}
		ops = ops[n:]
	}
	return errors.Join(errs...)
}

// one carries out ops that happen together.
func (d door) one(ctx context.Context, ops []kstate.Op) error {
	if d.gone() {
		return errDead
	}
	d.mu.Lock()
	for _, op := range ops {
		d.ops++
		if d.refuse != nil && d.refuse(d.ops-1, op) {
			d.mu.Unlock()
			return &kernel.OpError{Op: op, Err: errRefused}
		}
	}
	d.mu.Unlock()
	from := d.rig.k.Steps()
	err := d.rig.k.Apply(ctx, ops)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups = append(d.groups, group{from, d.rig.k.Steps()})
	if errors.Is(err, fake.ErrDead) {
		d.dead = true
		return errDead
	}
	return err
}

// vault is the store as the process sees it.
type vault struct{ *process }

func (v vault) Load() (store.Snapshot, error) { return v.rig.store.Load() }

func (v vault) Commit(c store.Change) error {
	done := v.turn(storeFirst)
	defer done()
	if v.gone() {
		return errDead
	}
	v.mu.Lock()
	n, say := v.n, v.commit
	v.n++
	v.mu.Unlock()
	if say != nil {
		if err := say(n); err != nil {
			return err
		}
	}
	if err := v.rig.store.Commit(c); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.doomed {
		v.dead = true
		return errDead
	}
	return nil
}

// commands are the commands that run in sandboxes.
type commands struct {
	mu    sync.Mutex // protects the following
	ended map[model.Process]chan struct{}
	kills []string
}

func (c *commands) done(p model.Process) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = map[model.Process]chan struct{}{}
	}
	if c.ended[p] == nil {
		c.ended[p] = make(chan struct{})
	}
	return c.ended[p]
}

func (c *commands) end(p model.Process) { close(c.done(p)) }

func (c *commands) Alive(p model.Process) bool {
	select {
	case <-c.done(p):
		return false
	default:
		return true
	}
}

func (c *commands) Wait(ctx context.Context, p model.Process) error {
	select {
	case <-c.done(p):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *commands) Kill(p *model.Process, netns string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid := 0
	if p != nil {
		pid = p.PID
	}
	c.kills = append(c.kills, fmt.Sprintf("%d %s", pid, filepath.Base(netns)))
	return nil
}

// must fails the test on an error.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// left are the ops of a difference.
func (r *rig) left() []kstate.Op {
	r.Helper()
	ops, _, err := r.e.Diff(r.ctx)
	r.ok(err)
	return ops
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// network makes a network with subnets and options written as on the command
// line: "internal", "icc=false" or a prefix.
func (r *rig) network(name string, words ...string) *model.Network {
	r.Helper()
	return must[*model.Network](r)(r.e.CreateNetwork(r.ctx, netSpec(name, words...)))
}

func netSpec(name string, words ...string) NetworkSpec {
	spec := NetworkSpec{Name: name, Options: map[string]string{}}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			spec.Options[k] = v
		} else if w == "internal" {
			spec.Internal = true
		} else {
			spec.Subnets = append(spec.Subnets, model.Subnet{Prefix: netip.MustParsePrefix(w)})
		}
	}
	return spec
}

func ports(texts ...string) (out []model.PortMapping) {
	for _, s := range texts {
		m, err := model.ParsePort(s)
		if err != nil {
			panic(err)
		}
		out = append(out, m)
	}
	return out
}

func on(networks ...string) (out []EndpointSpec) {
	for _, n := range networks {
		out = append(out, EndpointSpec{Network: n})
	}
	return out
}

func (r *rig) sandbox(name string, spec SandboxSpec) *model.Sandbox {
	r.Helper()
	spec.Name = name
	return must[*model.Sandbox](r)(r.e.CreateSandbox(r.ctx, spec))
}

// summary is intent without IDs and times, so that two runs can be compared.
func (r *rig) summary() string {
	var b strings.Builder
	names := map[model.ID]string{}
	for _, n := range r.e.Networks() {
		names[n.ID] = n.Name
		fmt.Fprintf(&b, "network %s %v internal=%v %v, %d shards, waiting %v\n", n.Name, n.Subnets, n.Internal, n.Options, n.Shards, n.Waiting)
	}
	list := r.e.Sandboxes()
	slices.SortFunc(list, func(a, b *model.Sandbox) int { return strings.Compare(title(a), title(b)) })
	for _, sb := range list {
		fmt.Fprintf(&b, "sandbox %s %s", title(sb), sb.Mode)
		for _, ep := range sb.Endpoints {
			fmt.Fprintf(&b, " [%s %s %s %v %d %d]", names[ep.Network], ep.IfName, ep.MAC, ep.Addrs, ep.Priority, ep.Shard)
		}
		for _, m := range sb.Ports {
			fmt.Fprintf(&b, " %s", m)
		}
		if sb.Exit != nil {
			fmt.Fprintf(&b, " exit %d lost=%v", sb.Exit.Code, sb.Exit.Lost)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// title is a sandbox's name, or the namespace it stands for.
func title(sb *model.Sandbox) string {
	if sb.Name == string(sb.ID) {
		return sb.NetNS
	}
	return sb.Name
}

// all is everything there is: what the store has, intent, the kernel, the
// journal and what is allocated. Two equal texts are two equal worlds.
func (r *rig) all() string {
	r.Helper()
	snap := must[store.Snapshot](r)(r.store.Load())
	is, should := r.registered()
	r.same("the register", is, should)
	entries := must[map[string]string](r)(r.store.Entries())
	stored, _ := json.MarshalIndent([]any{snap.Networks, snap.Sandboxes}, "", " ")
	intent, _ := json.MarshalIndent([]any{r.e.Networks(), r.e.Sandboxes()}, "", " ")
	return fmt.Sprintf("store %s\nintent %s\njournal %v\nendpoints %v\n%s\n%s", stored, intent, entries, r.e.endpoints, r.allocated(), r.k.Dump())
}

// watched are the host ports that tests publish, and hostAddrs where.
var (
	watched   = slices.Concat(span(53, 90), span(8000, 8100), span(9000, 9010), span(20000, 20048))
	hostAddrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
)

func span(first, last uint16) (out []uint16) {
	for p := first; p <= last; p++ {
		out = append(out, p)
	}
	return out
}

// allocated is what is taken.
func (r *rig) allocated() string {
	r.e.work.Lock()
	defer r.e.work.Unlock()
	return taken(r.e)
}

// taken says which addresses of small networks and which of the test's ports are
// taken. The caller holds work.
func taken(e *Engine) string {
	var b strings.Builder
	for _, n := range slices.SortedFunc(maps.Values(e.intent.Networks), func(a, b *model.Network) int { return strings.Compare(a.Name, b.Name) }) {
		for _, s := range n.Subnets {
			pool := e.pools[poolKey{n.ID, s.Prefix.Addr().Is6()}].Of(s.Prefix)
			fmt.Fprintf(&b, "%s %s: %d taken:", n.Name, s.Prefix, pool.Used())
			a := s.Prefix.Addr()
			for range 16 {
				if a = a.Next(); s.Prefix.Contains(a) && !s.Reserved(a) {
					if pool.Claim(a, "test") != nil {
						fmt.Fprintf(&b, " %s", a)
					} else {
						pool.Undo(a)
					}
				}
			}
			b.WriteByte('\n')
		}
	}
	for _, proto := range []string{"tcp", "udp"} {
		for _, port := range watched {
			for _, host := range hostAddrs {
				at := netip.AddrPortFrom(host, port)
				if owner, to, ok := e.ports.Lookup(proto, at); ok {
					fmt.Fprintf(&b, "%s %s: %s %d\n", proto, at, owner, to)
				}
			}
		}
	}
	return b.String()
}

// intent is a copy of the engine's.
func (r *rig) intent() compile.Intent {
	r.e.mu.RLock()
	defer r.e.mu.RUnlock()
	return compile.Intent{Networks: maps.Clone(r.e.intent.Networks), Sandboxes: maps.Clone(r.e.intent.Sandboxes)}
}

// registered lists who is found by which mark: in the engine, and as a new register
// of the same sandboxes has it.
func (r *rig) registered() (is, want []string) {
	r.e.mu.RLock()
	defer r.e.mu.RUnlock()
	fresh := register{}
	for _, sb := range r.e.intent.Sandboxes {
		fresh.replace(nil, sb)
	}
	list := func(all register) (out []string) {
		for m, some := range all {
			for _, sb := range some {
				out = append(out, fmt.Sprintf("%v %s %p", m, sb.ID, sb))
			}
		}
		slices.Sort(out)
		return out
	}
	return list(r.e.register), list(fresh)
}

// wanted is what the whole of intent compiles to.
func (r *rig) wanted() kstate.Set {
	r.Helper()
	facts := r.e.readFacts()
	facts.Filters = must[[]kstate.Filter](r)(r.k.Filters(r.Context()))
	facts.Bridges = bridges(must[kstate.Set](r)(r.k.Observe(r.Context(), kernel.Scope{})))
	return r.settled(must[kstate.Set](r)(compile.All(r.intent(), facts)))
}

// check compares everything with intent: what the store has, the kernel object
// by object, the journal, allocations, and that a pass has nothing to do.
func (r *rig) check() {
	r.Helper()
	r.compare()
	if ops := r.left(); len(ops) > 0 {
		r.Errorf("a pass would do: %v", ops)
	}
}

// compare is check without the pass. Nobody changes anything meanwhile, as those who
// follow containers would.
func (r *rig) compare() {
	r.Helper()
	r.e.work.Lock()
	defer r.e.work.Unlock()
	snap := must[store.Snapshot](r)(r.store.Load())
	intent, want := r.intent(), r.wanted()
	r.same("the store", storedText(snap.Networks, snap.Sandboxes),
		storedText(slices.Collect(maps.Values(intent.Networks)), slices.Collect(maps.Values(intent.Sandboxes))))
	ours, others := split(r.k.Dump(), r.runDir)
	wanted := slices.DeleteFunc(lines(pathsOnly(want.String())), func(l string) bool { return slices.Contains(others, l+" # foreign") })
	r.same("the kernel", ours, wanted)
	r.same("what others have", others, r.others())
	entries := must[map[string]string](r)(r.store.Entries())
	r.same("the journal", slices.Sorted(maps.Keys(entries)), r.noted(want))
	fresh := New(r.cfg)
	r.ok(fresh.load(snap))
	r.same("allocations", lines(taken(r.e)), lines(taken(fresh)))
	if !maps.Equal(r.e.crowd, fresh.crowd) {
		r.Errorf("endpoints per bridge %v, want %v", r.e.crowd, fresh.crowd)
	}
	if len(r.e.pools) != len(fresh.pools) {
		r.Errorf("%d pools, want %d", len(r.e.pools), len(fresh.pools))
	}
}

func (r *rig) same(what string, got, want []string) {
	r.Helper()
	if slices.Equal(got, want) {
		return
	}
	for _, l := range got {
		if !slices.Contains(want, l) {
			r.Errorf("%s has: %s", what, l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			r.Errorf("%s lacks: %s", what, l)
		}
	}
	if !r.Failed() {
		r.Errorf("%s: %q, want %q", what, got, want)
	}
}

func storedText(networks []*model.Network, sandboxes []*model.Sandbox) []string {
	var out []string
	for _, n := range networks {
		b, _ := json.Marshal(n)
		out = append(out, string(b))
	}
	for _, sb := range sandboxes {
		b, _ := json.Marshal(sb)
		out = append(out, string(b))
	}
	slices.Sort(out)
	return out
}

func lines(s string) []string {
	out := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	slices.Sort(out)
	return out
}

// split parts a dump into what is ours and what is not. The loopback devices of
// our namespaces come and go with them, and the own ones of Open vSwitch's bridges.
func split(dump, runDir string) (ours, others []string) {
	for _, l := range lines(dump) {
		switch {
		case strings.HasPrefix(l, "netns "+runDir) && strings.Contains(l, " link lo "), strings.HasPrefix(l, "link ") && strings.Contains(l, " type tun "):
		case strings.HasSuffix(l, "# foreign"), strings.HasPrefix(l, "socket "):
			others = append(others, l)
		default:
			ours = append(ours, l)
		}
	}
	return ours, others
}

// others is what others must have on the host: all that the rig gave them.
func (r *rig) others() []string {
	k := fake.New(nil)
	k.Foreign(append(slices.Clone(foreign), r.given...)...)
	_, others := split(k.Dump(), r.runDir)
	for _, l := range lines(r.k.Dump()) {
		if strings.HasPrefix(l, "socket ") || strings.HasSuffix(l, "# foreign") && r.inn.at(l) {
			others = append(others, l)
		}
	}
	slices.Sort(others)
	return others
}

// noted lists the journal's entries that a wanted state needs.
func (r *rig) noted(want kstate.Set) []string {
	var out []string
	for _, o := range want {
		switch o := o.(type) {
		case kstate.Sysctl:
			out = append(out, "sysctl/"+o.Name)
		case kstate.Raise:
			out = append(out, "up/"+o.Dev)
		case kstate.Addr:
			if o.Dev == lan.Name && !strings.Contains(r.k.Dump(), o.String()+" # foreign") {
				out = append(out, "addr/"+o.Dev+"/"+o.Prefix.String())
			}
		}
	}
	slices.Sort(out)
	return out
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}
