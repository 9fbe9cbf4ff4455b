// Package engine owns the intent of one host and keeps the kernel as intended.
//
// Every change is a draft: new states of networks and sandboxes with their
// addresses and ports allocated. Committing it stores the intent and applies
// the difference between the compiled fragments it touches, before and after.
// A pass (sync.go) does the same for the whole host against what the kernel
// really holds; it runs at start, on hints that something changed, and from
// time to time. Nothing is undone step by step: to undo is to apply the
// intent that was there before.
package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
	"github.com/sealane/sealane/internal/serve/dns"
	"github.com/sealane/sealane/internal/store"
)

// Store keeps intent. *store.Store is one.
type Store interface {
	Load() (store.Snapshot, error)
	Commit(store.Change) error
}

// Processes looks after the commands that run in sandboxes.
type Processes interface {
	// Alive reports whether the process still runs.
	Alive(model.Process) bool
	// Wait returns when the process has ended or ctx is done.
	Wait(context.Context, model.Process) error
	// Kill ends the process with SIGKILL, and every other process in the
	// network namespace at path unless path is empty.
	Kill(p *model.Process, netns string) error
}

// Config is what an Engine works with. Fields are needed unless they say otherwise.
type Config struct {
	Kernel    kernel.Kernel
	Store     Store
	Processes Processes
	Host      func() Host // read anew in each pass
	RunDir    string
	ProxyPort uint16      // 0 without a proxy
	Accepted  driver.Mark // see driver.Facts
	Default   DefaultNetwork
	// PortsChanged, if not nil, is called after published ports or the
	// addresses behind them changed: the proxy ends flows that lost theirs.
	PortsChanged func()
	Names        Resolver  // nil: no names
	Announcer    Announcer // nil: no announcements
	Leases       Leases    // nil: no DHCP
	Tunnels      Tunnels   // nil: nothing is carried for backend udp
	WireGuard    WireGuard // nil: devices of backend wireguard get no keys
	Paths        Paths     // nil: every path is taken for as wide as the uplink
	Checks       Checks    // nil: backends of services are not checked
	// Probe, if not nil, returns the hardware address of who has an address on a
	// wire, or nil.
	Probe      func(context.Context, announce.Wire, netip.Addr) (net.HardwareAddr, error)
	ShardPorts int // endpoints per bridge of a network; 0: as model.Network.Room says
	// SideRoutes, if not nil, lists where routes lead that Observe does not tell,
	// those of tables but the main one: automatic subnets stay away from them.
	SideRoutes func() []netip.Prefix
	// LinkLocals, if not nil, lists the host's link-local addresses of IPv6, which
	// Observe does not tell.
	LinkLocals func() []netip.Addr
	Health     Health
	// Follow sends a probe and says what was seen of it; nil: nothing can.
	Follow func(context.Context, kernel.Probe) (kernel.Trail, error)
	// Flows, if not nil, lists the connections that the host sends elsewhere than was
	// asked.
	Flows func() ([]kernel.Flow, error)
	// HandedOver, if not nil, is told which UDP ports services came to have: who is still
	// sent to somebody else's backend is to begin anew.
	HandedOver func([]kernel.Handover)
	// SocketsChoose: sockets of containers can choose among a service's backends.
	SocketsChoose bool
	// Limits, if not nil, says why the kernel cannot hold endpoints to rates: a
	// kernel.ErrUnsupported.
	Limits func() error
	// Feature, if not nil, says why the kernel lacks a feature of that name: a
	// kernel.ErrUnsupported.
	Feature func(name string) error
	// SwitchOf, if not nil, returns the bridge of Open vSwitch that a device of the
	// host is a port of, or "".
	SwitchOf func(device string) string
	// Heed, if not nil, has the kernel hint at what happens to the host's device of a
	// name, whenever there is one.
	Heed    func(device string)
	Runner  Runner  // nil: no commands in containers
	Uplinks Uplinks // nil: no NICs are moved
	Cluster Cluster
	Guests  Guests // nil: no containers of runtimes
	Boot    string // tells this boot of the host from others; empty if that is not known
	Now     func() time.Time
	Log     *slog.Logger
}

// Host is what is known about the host besides what Observe returns.
type Host struct {
	BridgeNetfilter bool
	AcceptRA        []string
	Wireless        []string          // devices
	Neighbours      map[string]string // see driver.Facts
	StrictPaths     bool              // what comes in by a device that its source is not reached by is dropped
	Resolv          model.DNS
	Servers         []netip.AddrPort // the host's name servers, those on loopback addresses too
}

// Engine is the engine of one host. Its methods may be called concurrently;
// changes happen one after the other, as the kernel would make them anyway.
type Engine struct {
	cfg  Config
	kick chan string // asks the loop for a pass, with the reason

	work sync.Mutex // held by the one who changes the kernel or intent; taken before mu

	mu        sync.RWMutex // protects the following, which only the holder of work changes
	intent    compile.Intent
	networkID map[string]model.ID // by name
	sandboxID map[string]model.ID // by name
	register  register
	endpoints map[model.ID]int  // endpoints per network
	crowd     map[bridgeKey]int // endpoints per bridge
	links     int               // between sandboxes
	facts     compile.Facts
	passed    compile.Facts      // of the last pass
	problems  map[string]problem // by object reference
	overlaps  map[string]Status  // by network: what of the host's came later
	astray    problem            // why the default network is not as its settings say
	parents   map[model.ID]problem
	turns     turns // has a lock of its own
	repairs   fight
	returns   fight // to others' firewalls, of our rules there

	// The following belong to the holder of work.
	until   time.Time     // our own changes settle, see watchful
	looking bool          // a pass for that is coming
	chains  bool          // and one for chains of plugins
	took    time.Duration // the last pass

	inode      uint64 // of the daemon's own namespace; 0 until asked for
	pools      map[poolKey]ipam.Pools
	wires      map[model.ID]string   // of networks on parents, with the pools
	neighbours map[string]neighbours // by the host's device
	ports      *ipam.Ports
	meta       map[string]string
	names      names
	leases     leases
	chores     chores
	contests   contests
	guests     guests
	uplinks    attachments
	fabrics    fabrics
	overlays   overlays
	paths      paths
	published  publishing
	checks     checks
	extensions extensions
	owed       []store.Change // what the store must still take back

	events  events  // what happened, for who asks
	tallies Tallies // and how often

	tracing chan struct{} // has room for who follows a probe

	portsMu sync.RWMutex // protects ports against Target, which cannot wait for work
	poolsMu sync.RWMutex // protects pools against Usage, which cannot wait for work either

	background sync.WaitGroup
	stop       context.CancelFunc
	ctx        context.Context // ends with Close
}

type poolKey struct {
	network model.ID
	is6     bool
}

// New returns an engine that has not started.
func New(cfg Config) *Engine {
	ctx, stop := context.WithCancel(context.Background())
	return &Engine{
		cfg: cfg, kick: make(chan string, 1), tracing: make(chan struct{}, 1), ctx: ctx, stop: stop,
		intent:    compile.Intent{Networks: map[model.ID]*model.Network{}, Sandboxes: map[model.ID]*model.Sandbox{}},
		networkID: map[string]model.ID{}, sandboxID: map[string]model.ID{}, register: register{}, endpoints: map[model.ID]int{}, crowd: map[bridgeKey]int{},
		problems: map[string]problem{}, pools: map[poolKey]ipam.Pools{}, wires: map[model.ID]string{}, ports: ipam.NewPorts(), meta: map[string]string{},
		turns:     turns{at: map[string]turn{}},
		leases:    newLeases(),
		chores:    newChores(),
		contests:  contests{by: map[model.ID]problem{}, asked: map[model.ID]*model.Sandbox{}},
		checks:    newChecks(),
		published: publishing{reserved: map[model.ID][]reservation{}, squatted: map[model.ServicePort]bool{}, noted: map[model.ID]*noted{}},
		guests:    guests{desks: newDesks(), notes: map[model.ID]note{}},
		names:     names{zones: map[model.ID]*dns.Zone{}, leaving: map[model.ID]<-chan struct{}{}},
	}
}

// Start loads intent, brings the kernel in line with it, makes the default
// network if there is none, and starts the loop. It returns after the first
// pass; an error of the store is final, one of the kernel is left to the loop.
func (e *Engine) Start(ctx context.Context) error {
	snap, err := e.cfg.Store.Load()
	if err != nil {
		return err
	}
	if err := e.load(snap); err != nil {
		return err
	}
	if err := e.forgetSeats(); err != nil {
		return err
	}
	if e.cfg.Leases != nil {
		e.cfg.Leases.Start(handler{e})
	}
	hints, err := e.cfg.Kernel.Watch(e.ctx) // first: what happens during the pass is not missed
	if err != nil {
		return fmt.Errorf("watch the kernel: %w", err)
	}
	e.facts = e.readFacts()
	e.startPaths()
	e.wantTunnels() // whose devices are still there
	served := e.serveAll()
	e.endStale()
	if _, err := e.Sync(ctx, "start"); err != nil {
		e.cfg.Log.Error("first pass", "err", err)
	}
	if err := e.ensureDefault(ctx); err != nil {
		e.cfg.Log.Error("default network", "err", err)
	}
	<-served
	e.startGuests(ctx)
	e.startChecks()
	e.background.Go(func() { e.loop(hints) })
	e.startFabrics()
	return nil
}

// Close stops the loop. Every data path stays.
func (e *Engine) Close() {
	e.stop()
	e.background.Wait()
}

// load fills the engine from a snapshot.
func (e *Engine) load(snap store.Snapshot) error {
	e.meta = snap.Meta
	for _, n := range snap.Networks {
		if n.Fabric != nil && n.Fabric.Backend.Type == model.BackendWireGuard {
			n.Fabric.Served = e.serves() // the kernel may be another one since
		}
		e.intent.Networks[n.ID] = n
		e.networkID[n.Name] = n.ID
		e.noteParts(nil, n)
		e.openPools(n)
		for _, is6 := range []bool{false, true} {
			e.pools[poolKey{n.ID, is6}].SetCursor(snap.Cursors[cursorKey(n.ID, is6)])
		}
	}
	for _, sb := range snap.Sandboxes {
		e.intent.Sandboxes[sb.ID] = sb
		e.sandboxID[sb.Name] = sb.ID
		e.register.replace(nil, sb)
		if err := e.claim(sb); err != nil {
			return fmt.Errorf("store: %s: %w", sb.Ref(), err)
		}
		e.count(sb, +1)
	}
	e.loadPublished()
	for _, n := range snap.Networks {
		e.keepWaiting(n)
	}
	if err := e.loadChores(); err != nil {
		return err
	}
	return e.loadUplinks()
}

func cursorKey(id model.ID, is6 bool) string {
	if is6 {
		return string(id) + "/6"
	}
	return string(id) + "/4"
}

// newID returns a fresh ID.
func newID() model.ID {
	b := make([]byte, model.IDLen/2)
	rand.Read(b) // never fails
	return model.ID(hex.EncodeToString(b))
}

// Facts that compile gets in the next pass or commit.
func (e *Engine) readFacts() compile.Facts {
	h := e.cfg.Host()
	e.noteStrict(h.StrictPaths)
	if e.cfg.Names != nil {
		e.cfg.Names.SetServers(h.Servers)
	}
	return compile.Facts{
		RunDir: e.cfg.RunDir, ProxyPort: e.cfg.ProxyPort, Accepted: e.cfg.Accepted, SocketsChoose: e.cfg.SocketsChoose,
		BridgeNetfilter: h.BridgeNetfilter, AcceptRA: h.AcceptRA, Neighbours: h.Neighbours, Resolv: h.Resolv, Uplinked: e.uplinked(),
		Spanned: e.facts.Spanned, Sharded: e.facts.Sharded, Apart: e.facts.Apart, Overlaid: e.facts.Overlaid, Sealed: e.facts.Sealed, Serving: e.facts.Serving, Meshed: e.facts.Meshed, Narrowed: e.facts.Narrowed, Kept: e.facts.Kept, Picks: e.facts.Picks,
	}
}

// networks lists all. They are never changed, so no lock is needed to read them.
func (e *Engine) networks() []*model.Network {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return values(e.intent.Networks)
}

// sandboxes lists all, as networks does.
func (e *Engine) sandboxes() []*model.Sandbox {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return values(e.intent.Sandboxes)
}

// Sandboxes returns all sandboxes, oldest first.
func (e *Engine) Sandboxes() []*model.Sandbox {
	list := e.sandboxes()
	slices.SortFunc(list, func(a, b *model.Sandbox) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func values[V any](m map[model.ID]*V) []*V {
	return slices.AppendSeq(make([]*V, 0, len(m)), maps.Values(m))
}

// Target implements the proxy's question: which container does a port at a
// host address belong to, and may this client use it. The host's own programs
// may use every port. It answers from live intent.
func (e *Engine) Target(proto string, client netip.Addr, dst netip.AddrPort) (netip.AddrPort, bool) {
	e.portsMu.RLock()
	owner, port, ok := e.ports.Lookup(proto, dst)
	e.portsMu.RUnlock()
	if !ok {
		return netip.AddrPort{}, false
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if a, found := e.publishedAt(proto, dst); found {
		return a, true
	}
	sb := e.intent.Sandboxes[model.ID(owner)]
	if sb == nil || !sb.Live() || !ours(client, dst.Addr()) && !allowed(sb, proto, client, dst) {
		return netip.AddrPort{}, false
	}
	for _, is6 := range []bool{dst.Addr().Is6(), !dst.Addr().Is6()} {
		if ep := compile.Carrier(sb, e.intent.Networks, is6); ep != nil && e.intent.Networks[ep.Network].Mode(is6).NAT() {
			a, _ := ep.Addr(is6)
			return netip.AddrPortFrom(a.Addr(), port), true
		}
	}
	return netip.AddrPort{}, false
}

// ours reports whether it is a program of the host's that asks dst, an address of the
// host: what goes there leaves from it, or from a loopback address.
func ours(client, dst netip.Addr) bool {
	return client.IsLoopback() || client.WithZone("") == dst.WithZone("")
}

// allowed reports whether a mapping of sb at dst is for the client.
func allowed(sb *model.Sandbox, proto string, client netip.Addr, dst netip.AddrPort) bool {
	return slices.ContainsFunc(sb.Ports, func(m model.PortMapping) bool {
		return m.Proto == proto && m.HostPort <= dst.Port() && dst.Port() <= m.HostLast() &&
			model.Meet(m.HostIP, dst.Addr()) && m.From.Allows(client)
	})
}

// internal wraps an error that is not the caller's fault.
func internal(ref, op string, err error) error {
	if _, ok := errors.AsType[*model.Error](err); ok {
		return err
	}
	return &model.Error{Kind: model.Internal, Ref: ref, Op: op, Err: err}
}

// heldError is a host port that another program holds. The cause says it all.
type heldError struct {
	hold  kstate.Hold
	cause error
}

func (e *heldError) Error() string { return e.cause.Error() }
func (e *heldError) Unwrap() error { return e.cause }

// tunnelError is a tunnel that the kernel refuses, as its number or its UDP port is
// another's. The cause says it all.
type tunnelError struct{ *kernel.OpError }

func (e tunnelError) Error() string { return e.Err.Error() }
func (e tunnelError) Unwrap() error { return e.OpError }

// worst returns the failure in err to tell the user: the first, but not of
// removing what is somebody else's, which makes no change fail.
func worst(err error) *kernel.OpError {
	failed := opErrors(err)
	if i := slices.IndexFunc(failed, func(f *kernel.OpError) bool { return f.Op.New != nil || !errors.Is(f.Err, kernel.ErrInUse) }); i >= 0 {
		return failed[i]
	}
	if len(failed) > 0 {
		return failed[0]
	}
	return nil
}

// explain turns errors of the kernel into the words of the domain.
func explain(ref, op string, err error) error {
	if err == nil {
		return nil
	}
	first, kind, hint := err, model.Internal, ""
	if opErr := worst(err); opErr != nil {
		if first = opErr; errors.Is(opErr, kernel.ErrNoNamespace) {
			first = opErr.Err // whoever was to get what the op makes has ended
		}
		setting, ok := errors.AsType[*kernel.SettingError](opErr)
		switch o := opErr.Op.Object().(type) {
		case kstate.Hold:
			first = &heldError{o, opErr.Err}
		case kstate.Route:
			if !o.NS.IsHost() && errors.Is(opErr, kernel.ErrInUse) { // somebody put another there
				first, hint = opErr.Err, "in the sandbox: take it away there, or give it a higher metric"
			}
		case kstate.OVSBridge, kstate.OVSPort:
			switch {
			case errors.Is(opErr, kernel.ErrNotRunning):
				first, kind = opErr.Err, model.Unsupported
			case !errors.Is(opErr, kernel.ErrInUse) && !errors.Is(opErr, kernel.ErrMissing):
				first = opErr.Err // its own words
			}
		case kstate.Link, kstate.NetNS: // their settings are what the user chose
			switch {
			case ok:
				first, kind = setting, model.Denied
			case errors.Is(opErr, kernel.ErrMissing):
				first, kind = opErr.Err, model.NotFound
				switch l, _ := o.(kstate.Link); { // which went after the network was made
				case l.Parent != "":
					first = fmt.Errorf("parent %s: is gone", l.Parent)
				case l.Master != "" && l.Type == kstate.TypeVeth:
					first = fmt.Errorf("bridge %s: is gone", l.Master)
				}
			case errors.Is(opErr, kernel.ErrInUse):
				switch l, _ := o.(kstate.Link); {
				case l.Type == kstate.TypeVXLAN:
					first = tunnelError{opErr}
				case l.Type.OnParent(): // who has the parent, or the hardware address
					first = opErr.Err
				}
			}
		}
	}
	switch {
	case errors.Is(first, kernel.ErrInUse):
		kind = model.Conflict
	case errors.Is(first, kernel.ErrNoNamespace):
		kind = model.Gone
	case errors.Is(first, kernel.ErrUnsupported):
		kind = model.Unsupported
	}
	return &model.Error{Kind: kind, Ref: ref, Op: op, Err: first, Hint: hint}
}
