package compile_test

import (
	"testing"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// TestUntracked: the chain that only shards need, under br_netfilter, is in no
// other packet's way.
func TestUntracked(t *testing.T) {
	for _, c := range []struct {
		bridged bool
		shards  int
		want    bool
	}{{false, 0, false}, {false, 1, false}, {true, 0, false}, {true, 1, true}} {
		n := &model.Network{ID: "aaaaaaaaaaaa", Name: "app", Driver: "bridge", Shards: c.shards}
		in := compile.Intent{Networks: map[model.ID]*model.Network{n.ID: n}}
		got, err := compile.Host(in, compile.Facts{BridgeNetfilter: c.bridged})
		if err != nil {
			t.Fatal(err)
		}
		chain := kstate.Chain{Table: kstate.Table{Family: "inet", Name: "sealane"}, Name: "untracked"}
		if _, has := got[chain.Key()]; has != c.want {
			t.Errorf("%+v: %v", c, !c.want)
		}
	}
}
