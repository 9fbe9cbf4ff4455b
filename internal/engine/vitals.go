package engine

import (
	"fmt"

	"github.com/sealane/sealane/internal/kernel/facts"
)

// checkVitals is about what may be used up.
func (e *Engine) checkVitals() []Check {
	if e.cfg.Health.Vitals == nil {
		return nil
	}
	return judgeVitals(e.cfg.Health.Vitals())
}

// judgeVitals is checkVitals for what was read.
func judgeVitals(v facts.Vitals) []Check {
	out := []Check{volume(v.StateDir)}
	if t := (facts.Table{Used: v.Connections, Most: v.MostConnections}); t.Most > 0 {
		out = append(out, filled("connections", "connections are tracked", "the kernel drops what begins when all are: raise net.netfilter.nf_conntrack_max", t))
	}
	for _, f := range []struct{ name, setting string }{{"IPv4", "net.ipv4"}, {"IPv6", "net.ipv6"}} {
		if t := v.Neighbours[f.name]; t.Most > 0 {
			out = append(out, filled("neighbours", "neighbours of "+f.name+" are known", "nobody new is found when all are: raise "+f.setting+".neigh.default.gc_thresh3", t))
		}
	}
	if v.Files.Most > 0 {
		out = append(out, filled("files", "files of the daemon are open", "raise its LimitNOFILE", v.Files))
	}
	return out
}

// How full a table may be, in percent.
const (
	fullish = 80
	full    = 97
)

// filled judges a table.
func filled(what, holds, right string, t facts.Table) Check {
	c := fine(what, "%d of at most %d %s", t.Used, t.Most, holds)
	switch percent := int64(t.Used) * 100 / int64(t.Most); {
	case percent >= full:
		c.State, c.Right = CheckFail, right
	case percent >= fullish:
		c.State, c.Right = CheckWarn, right
	}
	return c
}

// little is what should be free for the store, in bytes: it is copied when it grows.
const little = 64 << 20

// volume judges where the store is.
func volume(v facts.Volume) Check {
	c := fine("state directory", "%s: %d MiB are free", v.Path, v.Free>>20)
	switch {
	case v.Err != nil:
		return Check{CheckFail, "state directory", fmt.Sprintf("nothing can be written: %v", v.Err), "nothing can be changed before"}
	case v.Free < little/8:
		c.State, c.Right = CheckFail, "free some"
	case v.Free < little:
		c.State, c.Right = CheckWarn, "free some"
	}
	return c
}
