// Package bpf has the kernel judge system calls on sockets, by programs on the root of
// the cgroup hierarchy: [Choosers] leads connect(2) to a service on to a backend, and
// [Holder] keeps host ports from being bound by other programs, without a socket per
// port. Two programs refuse bind(2) for held ports with EADDRINUSE, as if a socket of
// ours had them.
//
//	bind(fd, 0.0.0.0:8080)
//	   │  cgroup/bind4 or bind6, only in the daemon's network namespace
//	   ▼
//	 keys (trie)  ── a key matches ──▶ EADDRINUSE
//	   ▲ derived
//	 held (hash): the kstate.Hold values themselves, what Observe reads
//
// Programs and maps are pinned in a bpffs of our own, so holds outlive the
// daemon, also one that was killed. Where the kernel cannot do this, real
// bound sockets take the place of the programs; those end with the process.
//
// What this does not do: a program that binds port 0 may be given a held port
// by the kernel, which asks nobody (net.ipv4.ip_local_reserved_ports is the
// answer to that), and listen or connect are never looked at. An IPv6-only
// wildcard socket is refused also where only an IPv4 address is held, as the
// program cannot see that option.
package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Holder takes and releases holds. Its methods may be called from several
// goroutines. There must be one Holder for a directory at a time.
type Holder struct {
	why error // why there are no programs; nil when there are

	mu  sync.Mutex // protects the following
	way way
}

// way is how ports are held: pinned programs or bound sockets. take and
// release answer with an error per hold, nil for each that went well.
type way interface {
	take([]kstate.Hold) []error
	release([]kstate.Hold) []error
	observe() ([]kstate.Hold, error)
	spare(port uint16)
	close() error
	remove() error
}

// Option changes how Open works.
type Option func(*options)

type options struct{ sockets bool }

// Sockets makes Open hold ports with bound sockets, as it does by itself where
// the kernel cannot do better.
func Sockets() Option { return func(o *options) { o.sockets = true } }

// Open mounts a bpffs at dir unless there is one, attaches the programs or
// takes over those a former process left, and repairs what a crash may have
// left half done. It acts on the network namespace of the calling thread.
// Where programs cannot be had, or are not allowed, it holds with sockets.
func Open(dir string, opts ...Option) (*Holder, error) {
	var o options
	for _, f := range opts {
		f(&o)
	}
	why := errors.New("sockets were asked for")
	if !o.sockets {
		p, err := openPinned(dir)
		if err == nil {
			return &Holder{way: p}, nil
		}
		if !errors.Is(err, kernel.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("holds in %s: %w", dir, err)
		}
		why = err
	}
	return &Holder{way: openSockets(), why: why}, nil
}

// Why says why ports are held by sockets, which end with the process. It is
// nil when they are held by pinned programs.
func (h *Holder) Why() error { return h.why }

// Spare says at which port sockets of this process are in nobody's way: the daemon's proxy
// listens at one that the kernel chose, and packets to published ports are rewritten
// before they could reach it.
func (h *Holder) Spare(port uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.way.spare(port)
}

// Apply carries out ops on kstate.Hold objects in order, as kernel.Kernel says.
// A port that another process's socket has is an error that wraps
// kernel.ErrInUse and names the program.
func (h *Holder) Apply(ops []kstate.Op) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for len(ops) > 0 {
		n := run(ops)
		for i, err := range h.applyRun(ops[:n]) {
			if err != nil {
				errs = append(errs, &kernel.OpError{Op: ops[i], Err: err})
			}
		}
		ops = ops[n:]
	}
	return errors.Join(errs...)
}

// run returns how many ops at the head are of one sort: they share one look at
// the foreign sockets, or one reading of the remaining holds.
func run(ops []kstate.Op) int {
	n := 1
	for n < len(ops) && (ops[n].New == nil) == (ops[0].New == nil) {
		n++
	}
	return n
}

// applyRun carries out ops that are all removals or all not, and returns an
// error per op.
func (h *Holder) applyRun(ops []kstate.Op) []error {
	errs := make([]error, len(ops))
	var holds []kstate.Hold
	var at []int // of each hold, in ops
	for i, op := range ops {
		hold, err := holdOf(op)
		if err != nil {
			errs[i] = err
			continue
		}
		holds, at = append(holds, hold), append(at, i)
	}
	do := h.way.take
	if ops[0].New == nil {
		do = h.way.release
	}
	for i, err := range do(holds) {
		errs[at[i]] = err
	}
	return errs
}

// holdOf returns the hold an op adds or removes.
func holdOf(op kstate.Op) (kstate.Hold, error) {
	h, ok := op.Object().(kstate.Hold)
	switch {
	case !ok || op.Old != nil && op.New != nil:
		return h, errors.New("not the addition or removal of a hold")
	case protocol(h.Proto) == 0:
		return h, fmt.Errorf("protocol %q: want tcp or udp", h.Proto)
	case h.First == 0 || h.Last < h.First:
		return h, fmt.Errorf("ports %d-%d: want 1 to 65535, in order", h.First, h.Last)
	case h.Addr.Zone() != "":
		return h, fmt.Errorf("address %s: a zone cannot be held", h.Addr)
	}
	return h, nil
}

// Observe returns the holds that are in force, exactly as they were applied.
func (h *Holder) Observe() ([]kstate.Object, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	holds, err := h.way.observe()
	if err != nil {
		return nil, fmt.Errorf("holds: %w", err)
	}
	objs := make([]kstate.Object, len(holds))
	for i, hold := range holds {
		objs[i] = hold
	}
	return objs, nil
}

// Close ends this process's part. Holds of pinned programs stay in force.
func (h *Holder) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.way.close()
}

// Remove releases everything, detaches the programs and unmounts the bpffs.
// The Holder is closed then.
func (h *Holder) Remove() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.way.remove()
}
