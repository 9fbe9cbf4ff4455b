package cluster

import (
	"cmp"
	"context"
	"slices"
)

// maxPending is how many changes wait for a reader with all their history. Beyond
// it, only the last change of each key does: there are as many as there are keys.
const maxPending = 1024

// Merge passes batches on and waits for no reader: what comes while one is busy is
// put together. It ends with in, or when ctx is done, and closes what it returns.
// It is how a Store keeps Watch's promise.
func Merge(ctx context.Context, in <-chan Batch) <-chan Batch {
	out := make(chan Batch)
	go func() {
		defer close(out)
		var p pending
		for in != nil || p.due {
			to := out
			if !p.due {
				to = nil
			}
			select {
			case b, ok := <-in:
				if !ok {
					in = nil
				} else if p.add(b); b.Err != nil {
					in = nil
				}
			case to <- p.batch:
				p = pending{}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// pending is what a reader has not had yet.
type pending struct {
	batch Batch
	due   bool
	limit int // of changes, from when on they are thinned
}

// add appends a later batch.
func (p *pending) add(b Batch) {
	p.due = true
	p.batch.Changes = append(p.batch.Changes, b.Changes...)
	p.batch.Rev, p.batch.Err = max(p.batch.Rev, b.Rev), b.Err
	if len(p.batch.Changes) > max(maxPending, p.limit) {
		p.batch.Changes = last(p.batch.Changes)
		p.limit = 2 * len(p.batch.Changes) // so that it is thinned seldom
	}
}

// last keeps the last change of each key, in order. Those of a listing are by key, and of each
// there is one.
func last(changes []Change) []Change {
	if listed(changes) {
		return changes
	}
	seen := make(map[string]bool, len(changes))
	out := make([]Change, 0, len(changes))
	for _, c := range slices.Backward(changes) {
		if !seen[c.Key] {
			seen[c.Key] = true
			out = append(out, c)
		}
	}
	slices.Reverse(out)
	return out
}

func listed(changes []Change) bool {
	for i := range changes[min(1, len(changes)):] {
		if changes[i].Key >= changes[i+1].Key {
			return false
		}
	}
	return true
}

// byKey orders entries.
func byKey(a, b Entry) int { return cmp.Compare(a.Key, b.Key) }
