package dns

import (
	"hash/maphash"
	"slices"
)

// Sizes of a table.
const (
	bucketLoad = 8  // entries of a bucket on average when the table is made bigger
	chunkSize  = 32 // buckets
)

// table is an immutable map: a change makes another table, which shares all but
// what is changed with the one before. With n entries that copies n/256 pointers
// to chunks, and for each entry one bucket and its chunk, once, where a Go map would
// be copied whole.
type table[K comparable, V any] struct {
	hash   func(K) uint64
	chunks []*chunk[K, V] // a power of two
	own    []bool         // those that are copies already, since edit
	n      int
}

type chunk[K comparable, V any] [chunkSize][]pair[K, V]

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newTable[K comparable, V any](hash func(K) uint64) table[K, V] {
	return table[K, V]{hash: hash, chunks: []*chunk[K, V]{new(chunk[K, V])}}
}

func hashString(seed maphash.Seed) func(string) uint64 {
	return func(s string) uint64 { return maphash.String(seed, s) }
}

func hashComparable[K comparable](seed maphash.Seed) func(K) uint64 {
	return func(k K) uint64 { return maphash.Comparable(seed, k) }
}

// place returns where the entry of k would be.
func (t *table[K, V]) place(k K) (at, bucket int) {
	h := t.hash(k)
	return int(h / chunkSize & uint64(len(t.chunks)-1)), int(h % chunkSize)
}

// get returns the value of k, or the zero value.
func (t *table[K, V]) get(k K) (V, bool) {
	at, bucket := t.place(k)
	b := t.chunks[at][bucket]
	for i := range b {
		if b[i].key == k {
			return b[i].value, true
		}
	}
	var none V
	return none, false
}

// edit returns a copy that may be changed with set and remove until somebody
// else sees it.
func (t *table[K, V]) edit() table[K, V] {
	c := *t
	c.chunks, c.own = slices.Clone(t.chunks), make([]bool, len(t.chunks))
	return c
}

func (t *table[K, V]) set(k K, v V) {
	if t.remove(k); t.n >= bucketLoad*chunkSize*len(t.chunks) {
		t.grow()
	}
	at, bucket := t.place(k)
	old := t.chunks[at][bucket]
	b := make([]pair[K, V], len(old), len(old)+1)
	copy(b, old)
	t.replace(at, bucket, append(b, pair[K, V]{k, v}))
	t.n++
}

func (t *table[K, V]) remove(k K) {
	at, bucket := t.place(k)
	old := t.chunks[at][bucket]
	i := slices.IndexFunc(old, func(p pair[K, V]) bool { return p.key == k })
	if i < 0 {
		return
	}
	t.replace(at, bucket, slices.Concat(old[:i], old[i+1:]))
	t.n--
}

func (t *table[K, V]) replace(at, bucket int, b []pair[K, V]) {
	if !t.own[at] {
		c := *t.chunks[at]
		t.chunks[at], t.own[at] = &c, true
	}
	t.chunks[at][bucket] = b
}

// grow doubles the table.
func (t *table[K, V]) grow() {
	old := t.chunks
	t.chunks, t.own = make([]*chunk[K, V], 2*len(old)), make([]bool, 2*len(old))
	for i := range t.chunks {
		t.chunks[i], t.own[i] = new(chunk[K, V]), true
	}
	for _, c := range old {
		for _, b := range c {
			for _, p := range b {
				at, bucket := t.place(p.key)
				t.chunks[at][bucket] = append(t.chunks[at][bucket], p)
			}
		}
	}
}
