package member

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// TestReclaim fills etcd's database with history: it takes writes again by itself.
func TestReclaim(t *testing.T) {
	a := newHost(t, 1, &days{})
	a.cfg.Quota = 16 << 20
	if _, err := a.Init(t.Context(), netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	big := cluster.Txn{Put: []cluster.Put{{Key: "/coreos.com/network/big", Value: bytes.Repeat([]byte("x"), 1<<19)}}}
	write := func() error { _, _, err := a.run.admin.Commit(t.Context(), big); return err }
	full := false
	for range 64 {
		if err := write(); err != nil {
			if full = strings.Contains(err.Error(), "database is full"); full {
				break
			}
			t.Fatal(err)
		}
	}
	if !full {
		t.Fatal("it was never full")
	}
	within(t, time.Minute, "taking writes again", func() bool { return write() == nil })
}
