package etcd

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestLineage(t *testing.T) {
	header := func(cluster, term uint64, rev int64) *pb.ResponseHeader {
		return &pb.ResponseHeader{ClusterId: cluster, RaftTerm: term, Revision: rev}
	}
	for name, c := range map[string]struct {
		next    *pb.ResponseHeader
		another bool
	}{
		"the same":                {header(1, 5, 100), false},
		"later":                   {header(1, 6, 200), false},
		"another cluster":         {header(2, 5, 100), true},
		"an older revision":       {header(1, 5, 99), true},
		"restored and overtaken":  {header(1, 4, 200), true},
		"begun anew, in one term": {header(1, 5, 1), true},
	} {
		s := &Store{}
		s.saw(s.lineage(), header(1, 5, 100))
		before := s.lineage()
		got := s.saw(before, c.next)
		if (got.epoch > 0) != c.another || (got.id() != before.id()) != c.another {
			t.Errorf("%s: %+v", name, got)
		}
		if again := s.saw(s.lineage(), c.next); again != got {
			t.Errorf("%s: %+v, then %+v", name, got, again)
		}
	}

	// Two calls side by side: the answer to the first comes last.
	s := &Store{}
	s.saw(s.lineage(), header(1, 5, 100))
	first, second := s.lineage(), s.lineage()
	s.saw(second, header(1, 6, 120))
	if got := s.saw(first, header(1, 5, 110)); got.epoch != 0 || got.term != 6 || got.rev != 120 {
		t.Errorf("%+v", got)
	}
	// The same where the store became another meanwhile: the older answer tells nothing.
	s.saw(s.lineage(), header(2, 1, 10))
	if got := s.saw(first, header(1, 6, 130)); got.epoch != 1 || got.cluster != 2 {
		t.Errorf("%+v", got)
	}
}
