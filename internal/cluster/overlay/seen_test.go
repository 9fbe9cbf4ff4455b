package overlay

import (
	"fmt"
	"testing"

	"github.com/sealane/sealane/internal/cluster"
)

// BenchmarkView has one of 10,000 endpoints change.
func BenchmarkView(b *testing.B) {
	s := newSeen()
	deliver := s.deliver(prefix + "/")
	n := net("aa", "app", "10.1.0.0/16")
	n.VNI = 7
	text, err := n.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	all := []cluster.Change{{Entry: cluster.Entry{Key: prefix + "/networks/aa", Value: text}}}
	for i := range 10_000 {
		e := end("aa", fmt.Sprintf("e%d", i), fmt.Sprintf("10.1.%d.%d", 1+i/200, 1+i%200))
		e.Host = fmt.Sprintf("n-%d", i%100)
		if text, err = e.Marshal(); err != nil {
			b.Fatal(err)
		}
		all = append(all, cluster.Change{Entry: cluster.Entry{Key: prefix + "/" + e.Key().String(), Value: text}})
	}
	deliver(cluster.Update{Changes: all})
	if v := s.view(state{}, nil, ""); len(v.Networks["aa"].Endpoints) != 10_000 {
		b.Fatalf("%d endpoints", len(v.Networks["aa"].Endpoints))
	}
	for i := range b.N {
		deliver(cluster.Update{Changes: all[1+i%10_000 : 2+i%10_000]})
		if s.view(state{}, nil, "") == nil {
			b.Fatal("nothing new")
		}
	}
}
