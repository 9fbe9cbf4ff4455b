// Package journal remembers what cannot carry a mark: the value a sysctl had,
// an address put on somebody else's device. An entry is written before the
// first change and erased after it was taken back, so an entry without a
// change is harmless and a change without an entry cannot be.
package journal

import (
	"maps"
	"sync"
)

// Journal is durable storage for entries. The store implements it.
type Journal interface {
	// Put stores an entry durably, replacing none: if key is there already,
	// its first value stays.
	Put(key, before string) error
	// Erase removes an entry; a missing one is no error.
	Erase(key string) error
	// Entries returns a copy of all entries.
	Entries() (map[string]string, error)
}

// Memory is a Journal that lives as long as the process, for tests.
type Memory struct {
	mu sync.Mutex // protects m
	m  map[string]string
}

// Put keeps the first value.
func (j *Memory) Put(key, before string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.m == nil {
		j.m = map[string]string{}
	}
	if _, ok := j.m[key]; !ok {
		j.m[key] = before
	}
	return nil
}

// Erase forgets key.
func (j *Memory) Erase(key string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.m, key)
	return nil
}

// Entries copies.
func (j *Memory) Entries() (map[string]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.m), nil
}
