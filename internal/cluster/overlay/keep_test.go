package overlay

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// strict is a store that refuses endpoints.
type strict struct{ cluster.Store }

func (s strict) Commit(ctx context.Context, x cluster.Txn) (int64, bool, error) {
	for _, p := range x.Put {
		if strings.Contains(p.Key, "/endpoints/") {
			return 0, false, fmt.Errorf("%w: no endpoints", cluster.ErrRefused)
		}
	}
	return s.Store.Commit(ctx, x)
}

// TestAliveWhileRefused has the store refuse a host's endpoint for good: the host goes on
// to be said alive.
func TestAliveWhileRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, m, 1)
		b := start(t, m, 2, func(o *Options) { o.Store = strict{o.Store} })
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		b.Set([]Endpoint{end("aa", "e1", "10.1.0.2")})
		quiet()
		if got := strings.Join(b.view().Problems, "; "); !strings.Contains(got, "no endpoints") {
			t.Fatalf("problems: %s", got)
		}
		for n := range 300 {
			m.Pass(0)
			time.Sleep(time.Second)
			synctest.Wait()
			if !a.view().Hosts["n-2"].Alive {
				t.Fatalf("not alive after %d s", n)
			}
		}
		b.stop()
	})
}
