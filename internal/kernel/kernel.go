// Package kernel is the only door to the operating system: it reads what is
// there, carries out ops, and hints when something changed. Everything above
// it works on kstate values.
//
// What we own is marked on the objects themselves (a link group, a route
// protocol, our own nftables tables, paths in our run directory); what cannot
// carry a mark is written to the journal before it is changed.
package kernel

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealane/sealane/internal/kstate"
)

// Kernel is a kernel, real or fake. Both pass the suite in kerneltest.
// Observe and Apply may be called at the same time from several goroutines.
type Kernel interface {
	// Observe returns what is there in the host's namespace and in the
	// namespaces of scope: everything that bears our mark, and foreign links,
	// addresses, routes and namespaces, which say Foreign. A namespace of the
	// scope that does not exist, or has another inode, is left out without
	// an error.
	Observe(ctx context.Context, scope Scope) (kstate.Set, error)

	// Filters returns the base chains of others' tables that judge what passes
	// the host or comes to it.
	Filters(ctx context.Context) ([]kstate.Filter, error)

	// Apply carries out ops in order. It goes on after a failed op and
	// returns all failures, each an *OpError, joined in the order of ops.
	// Adding what is there already exactly as wanted is no failure, nor is
	// removing what is gone. Consecutive nftables ops are one transaction: all
	// of them happen or none. A guest is by itself.
	Apply(ctx context.Context, ops []kstate.Op) error

	// Watch sends a Hint whenever something of ours may have been changed by
	// somebody else, until ctx is done; then it closes the channel. Hints may
	// be merged and may be wrong; changes made through Apply give none.
	Watch(ctx context.Context) (<-chan Hint, error)
}

// Scope says where Observe looks.
type Scope struct {
	// NS are namespaces besides the host's. A path without inode takes any;
	// the NetNS observed of a foreign one says which it has.
	NS []kstate.NS
	// Only leaves the host's namespace, nftables, holds, choices and files out.
	Only bool
	// Devices leaves nftables, settings, holds, choices and files out, which are most of the
	// work: there are devices, with what is on them, and Open vSwitch's bridges.
	Devices bool
}

// Hint says that something may have changed, in a few words for the log.
type Hint struct{ What string }

// OpError is one op that failed.
type OpError struct {
	Op  kstate.Op
	Err error
}

// Error is "op: cause".
func (e *OpError) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// SettingError is a sysctl that cannot be read or written; it names the setting
// and not the op, whose user may have chosen it.
type SettingError struct {
	Name string // with "=VALUE" if that was to be written
	Err  error
}

// Error is "setting NAME: cause".
func (e *SettingError) Error() string { return fmt.Sprintf("setting %s: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *SettingError) Unwrap() error { return e.Err }

// Causes that callers act on. Kernels wrap them with the detail.
var (
	// ErrNoNamespace: the op's namespace is gone, or its path now names another.
	ErrNoNamespace = errors.New("network namespace is gone")
	// ErrInUse: another program holds the port, device name or address.
	ErrInUse = errors.New("in use")
	// ErrMissing: what the op stands on is not there.
	ErrMissing = errors.New("does not exist")
	// ErrNotRunning: a program of the host that would do it does not run.
	ErrNotRunning = errors.New("not running")
	// ErrUnsupported: this kernel cannot do it. The feature package says why.
	ErrUnsupported = errors.New("not supported by this kernel")
)
