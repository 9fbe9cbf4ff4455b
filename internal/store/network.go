package store

import (
	"errors"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/sealane/sealane/internal/model"
)

// An overlay network may have parts by the thousand, which come and go one by one: each has
// a key of its own, and comes back in the order of keys, which is that of the parts.

// networks reads all networks with their parts.
func networks(tx *bbolt.Tx) (all []*model.Network, err error) {
	at := map[string]*model.Overlay{}
	err = each(tx, bucketNetworks, func(id string, n *model.Network) error {
		if all = append(all, n); n.Overlay != nil {
			at[id] = n.Overlay
		}
		return nil
	})
	if err == nil {
		err = parts(tx, bucketFar, at, func(o *model.Overlay, f *model.Far) { o.Far = append(o.Far, f) })
	}
	if err == nil {
		err = parts(tx, bucketServices, at, func(o *model.Overlay, s *model.Service) { o.Services = append(o.Services, s) })
	}
	for _, o := range at {
		o.Derive()
	}
	return all, err
}

// parts reads those of a bucket.
func parts[T any](tx *bbolt.Tx, bucket []byte, at map[string]*model.Overlay, add func(*model.Overlay, *T)) error {
	return each(tx, bucket, func(key string, x *T) error {
		id, _, _ := strings.Cut(key, "/")
		if at[id] == nil {
			return errors.New("is of no overlay network")
		}
		add(at[id], x)
		return nil
	})
}

// network brings what there is of a network from one state to another.
func (w *writer) network(from, to *model.Network) {
	var id model.ID
	if to != nil {
		id = to.ID
		w.put(bucketNetworks, string(id), frame(to))
	} else {
		id = from.ID
		w.del(bucketNetworks, string(id))
	}
	was, is := partsOf(from), partsOf(to)
	revise(w, bucketFar, id, was.Far, is.Far)
	revise(w, bucketServices, id, was.Services, is.Services)
}

// frame is a network without its parts.
func frame(n *model.Network) *model.Network {
	if n.Overlay == nil {
		return n
	}
	c, o := *n, *n.Overlay
	o.Far, o.Services, c.Overlay = nil, nil, &o
	return &c
}

func partsOf(n *model.Network) *model.Overlay {
	if n == nil || n.Overlay == nil {
		return &model.Overlay{}
	}
	return n.Overlay
}

// part is one that has a key.
type part[T any] interface {
	*T
	Key() string
	Order(*T) int
}

// revise writes the parts of one kind that are other values.
func revise[T any, P part[T]](w *writer, bucket []byte, network model.ID, from, to []P) {
	for was, is := range model.Changes(from, to, func(a, b P) int { return a.Order((*T)(b)) }) {
		if is != nil {
			w.put(bucket, string(network)+"/"+is.Key(), is)
		} else {
			w.del(bucket, string(network)+"/"+was.Key())
		}
	}
}
