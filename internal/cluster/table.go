package cluster

import (
	"slices"
	"strings"
	"time"
)

// table is what a store holds at a revision. The stores that keep their own content
// do so in one.
type table struct {
	rev  int64
	rows map[string]row
}

// row is an entry without its key.
type row struct {
	value   []byte
	rev     int64
	expires time.Time // zero: never
}

// entry returns a row as an entry of its own.
func (r row) entry(key string) Entry {
	return Entry{Key: key, Value: slices.Clone(r.value), Rev: r.rev, Lasting: r.expires.IsZero()}
}

// list returns what is under a prefix, by key.
func (t *table) list(prefix string) []Entry {
	var out []Entry
	for k, r := range t.rows {
		if strings.HasPrefix(k, prefix) {
			out = append(out, Entry{k, slices.Clone(r.value), r.rev, r.expires.IsZero()})
		}
	}
	slices.SortFunc(out, byKey)
	return out
}

// commit does a transaction at the next revision if its conditions hold, and returns
// what it changed. What changes nothing leaves the revision as it is.
func (t *table) commit(x Txn, now time.Time) (changes []Change, done bool) {
	for _, c := range x.If {
		if t.rows[c.Key].rev != c.Rev {
			return nil, false
		}
	}
	next := t.rev + 1
	for _, p := range x.Put {
		r := row{value: slices.Clone(p.Value), rev: next}
		if p.TTL > 0 {
			r.expires = now.Add(p.TTL)
		}
		t.rows[p.Key] = r
		changes = append(changes, Change{Entry: Entry{p.Key, r.value, next, r.expires.IsZero()}})
	}
	changes = append(changes, t.remove(x.Delete, next)...)
	if len(changes) > 0 {
		t.rev = next
	}
	return changes, true
}

// remove takes keys out at a revision that the caller counts.
func (t *table) remove(keys []string, rev int64) []Change {
	var out []Change
	for _, k := range keys {
		if _, ok := t.rows[k]; ok {
			delete(t.rows, k)
			out = append(out, Change{Entry: Entry{Key: k, Rev: rev}, Gone: true})
		}
	}
	return out
}

// expire takes out what has had its time, at the next revision if there is any.
func (t *table) expire(now time.Time) []Change {
	over := t.expired(now)
	if len(over) > 0 {
		t.rev++
	}
	return t.remove(over, t.rev)
}

// expired returns the keys whose time has passed, in order.
func (t *table) expired(now time.Time) []string {
	var out []string
	for k, r := range t.rows {
		if !r.expires.IsZero() && !now.Before(r.expires) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// expiry returns when the first key goes by itself; zero: none does.
func (t *table) expiry() time.Time {
	var first time.Time
	for _, r := range t.rows {
		if !r.expires.IsZero() && (first.IsZero() || r.expires.Before(first)) {
			first = r.expires
		}
	}
	return first
}

// under keeps the changes below a prefix.
func under(prefix string, changes []Change) []Change {
	var out []Change
	for _, c := range changes {
		if strings.HasPrefix(c.Key, prefix) {
			c.Value = slices.Clone(c.Value)
			out = append(out, c)
		}
	}
	return out
}
