package cluster_test

import (
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/clustertest"
)

func TestMemory(t *testing.T) {
	clustertest.Test(t, func(t *testing.T) clustertest.Subject {
		m := cluster.NewMemory(nil)
		other := m.Another()
		restart := func() {
			for _, away := range []bool{true, false} {
				m.SetAway(away)
				other.SetAway(away)
			}
		}
		return clustertest.Subject{
			Store: m, Other: other, Away: m.SetAway, Compact: m.Compact,
			Restart: restart, Pass: m.Pass, TTL: time.Millisecond,
		}
	})
}
