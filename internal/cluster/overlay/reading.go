package overlay

import (
	"fmt"
	"sync"

	"github.com/sealane/sealane/internal/cluster"
)

// reading is a change with what its key and its value say.
type reading struct {
	text  string // the key's
	key   Key
	isKey bool
	cluster.Change
	value any   // of a kind that Views have: *Network, *Host, *Endpoint or *Service
	err   error // why it is none
}

// many is from how many changes on it pays to read two halves of them at once.
const many = 256

// readAll reads changes, which are by their keys' texts.
func readAll(inbox map[string]cluster.Change) []reading {
	all := make([]reading, 0, len(inbox))
	for text, c := range inbox {
		all = append(all, reading{text: text, Change: c})
	}
	n := 0
	var both sync.WaitGroup
	if len(all) >= many {
		n = len(all) / 2
		both.Go(func() { read(all[:n]) })
	}
	read(all[n:])
	both.Wait()
	return all
}

func read(some []reading) {
	for i := range some {
		r := &some[i]
		if r.key, r.isKey = ParseKey(r.text); r.isKey && !r.Gone {
			r.value, r.err = parse(r.key, r.Value)
		}
	}
}

// parse reads the value of a key, and says why it is none.
func parse(k Key, text []byte) (any, error) {
	switch k.Kind {
	case KindNetwork:
		n, err := ParseNetwork(text)
		if err == nil && n.ID != k.Network {
			err = fmt.Errorf("id %q: its key says %q", n.ID, k.Network)
		}
		return &n, err
	case KindHost:
		h, err := ParseHost(text)
		if err == nil && h.ID != k.Host {
			err = fmt.Errorf("id %q: its key says %q", h.ID, k.Host)
		}
		return &h, err
	case KindEndpoint:
		return ParseEndpoint(k, text)
	case KindService:
		return ParseService(k, text)
	}
	return nil, checkValue(k.Kind, text)
}

// checkValue says what is wrong with a value that no View has.
func checkValue(kind Kind, text []byte) (err error) {
	switch kind {
	case KindAddress:
		_, err = ParseClaim(text)
	case KindPort:
		_, err = ParsePortClaim(text)
	case KindHeld:
		_, err = ParseHeld(text)
	}
	return err
}
