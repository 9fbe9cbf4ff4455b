// Package cluster is what the hosts of one system tell each other: keys with values
// in a store that all of them see.
//
// What is contended (a subnet, a name) is claimed by Commit's conditions, which is
// compare-and-swap. Everything else a host writes under keys of its own. A host that
// cannot reach the store goes on with what it knew.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Entry is a key with its value.
type Entry struct {
	Key   string
	Value []byte
	Rev   int64 // of the store when it was last put

	// Lasting says that it was last put without a TTL, by whomever: it does not go by
	// itself. internal/cluster/flannel needs to know it of each entry, for a lease
	// of Flannel's that lasts is a reservation, and has to stay one.
	Lasting bool
}

// Snapshot is what is under a prefix at one revision of the store.
type Snapshot struct {
	ID      string // of the store: revisions of another count other things; "" if it has none yet
	Rev     int64
	Entries []Entry // by key
}

// Change is a key that was put or that went, by hand or as its time ran out.
type Change struct {
	Entry
	Gone bool // then there is no Value, and Rev is of its going
}

// Batch is what changed at one revision or at several that follow each other; a
// revision is never in two. Of a key that changed more than once there may be the
// last change only. A Batch without changes says that the store was in touch, and
// that nothing but what has been sent happened up to Rev.
type Batch struct {
	Rev     int64 // of the last
	Changes []Change
	Err     error // why no more is sent: ErrCompacted, or what is wrong with the store
}

// Txn is done whole or not at all.
type Txn struct {
	If     []If
	Put    []Put
	Delete []string // what is not there is no obstacle
}

// If holds while a key was last put at a revision; 0: while it is not there.
type If struct {
	Key string
	Rev int64
}

// Put is a value for a key. It goes by itself when TTL has passed, if that is not 0;
// a store may round that up to its own seconds, and need not count the time in which
// it is away.
type Put struct {
	Key   string
	Value []byte
	TTL   time.Duration
}

// ErrCompacted says that a store no longer knows what happened since a revision, or
// is not the one that the revision is of: List says what is there now.
var ErrCompacted = errors.New("the store has forgotten that revision")

// ErrAway wraps the error of a store that cannot be asked: nothing is known of what
// it holds, nor, after a Commit, of whether that was done.
var ErrAway = errors.New("the store does not answer")

// ErrRefused wraps the error of a store that answers, but not to us: a password, a
// certificate or a permission is not what it should be. Nothing was done.
var ErrRefused = errors.New("the store refuses")

// Patience is how long a store tries before it is ErrAway.
const Patience = 5 * time.Second

// Store is one. Its methods may be called concurrently. The errors of their contexts
// are returned as they are; where a context has no deadline, a call has Patience.
type Store interface {
	// List returns what is under a prefix, which is of the key's text.
	List(ctx context.Context, prefix string) (Snapshot, error)
	// Watch sends what changes under a prefix after a revision, in order, until ctx
	// is done; the channel is closed then, or after a Batch with Err. The first Batch
	// comes as soon as the store is in touch. A store that is away for less than
	// Patience may come back without a word; nothing is missed. A reader that is
	// slow gets bigger batches, and keeps nobody waiting.
	Watch(ctx context.Context, prefix string, after int64) <-chan Batch
	// Commit does a transaction if all its conditions hold, and says at which
	// revision, and whether they did.
	Commit(ctx context.Context, t Txn) (rev int64, done bool, err error)
	// Close ends what this process has of the store, Watches too. The store keeps
	// all that it holds, for as long as it was told to.
	Close() error
}

// What etcd takes in one transaction, unless it is told otherwise: its flags
// --max-txn-ops and --max-request-bytes, less what surrounds keys and values.
const (
	maxConditions = 128
	maxOperations = 128
	maxBytes      = 1 << 20
)

// Check says why no store takes a transaction, so that all of them refuse the same.
func (t Txn) Check() error {
	if len(t.If) > maxConditions || len(t.Put)+len(t.Delete) > maxOperations {
		return fmt.Errorf("transaction: %d conditions, %d changes: up to %d and %d fit", len(t.If), len(t.Put)+len(t.Delete), maxConditions, maxOperations)
	}
	size, keys := 0, make([]string, 0, maxOperations)
	for _, p := range t.Put {
		size += len(p.Value)
		keys = append(keys, p.Key)
		if p.TTL < 0 {
			return fmt.Errorf("transaction: %s: %s is no time to live", p.Key, p.TTL)
		}
	}
	seen := map[string]bool{}
	for _, k := range append(keys, t.Delete...) {
		if size += len(k); seen[k] {
			return fmt.Errorf("transaction: %s: is in it twice", k)
		}
		if seen[k] = true; k == "" || !utf8.ValidString(k) {
			return fmt.Errorf("transaction: %q is no key", k)
		}
	}
	if size > maxBytes {
		return fmt.Errorf("transaction: %d bytes: up to %d fit", size, maxBytes)
	}
	return nil
}
