package etcd_test

import (
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster/clustertest"
	"github.com/sealane/sealane/internal/cluster/etcd"
)

// TestEmbedded holds the store to the suite with a server in this process.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	c := admin(t, m.url)
	clustertest.Test(t, func(t *testing.T) clustertest.Subject {
		w := newWire(t, m.url)
		return clustertest.Subject{
			Store: dial(t, etcd.Config{Endpoints: []string{w.url}}), Other: dial(t, etcd.Config{Endpoints: []string{m.url}}),
			Away:    func(away bool) { w.set(!away) },
			Compact: func() { compact(t, c) },
			Restart: func() { m.stop(); m.start() },
			Pass:    time.Sleep, TTL: 3 * time.Second,
		}
	})
}
