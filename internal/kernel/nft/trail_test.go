package nft

import (
	"context"
	"net/netip"
	"strings"
	"testing"
)

// A trail's tables say what nft reads as the same, are nobody's business, and go with it.
func TestTrail(t *testing.T) {
	c := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ch, err := c.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []Marks{
		{Proto: "tcp", Src: netip.MustParseAddr("10.0.0.1"), Port: 4660, Whole: true},
		{Proto: "udp", Src: netip.MustParseAddr("fd00::1"), Port: 9, Whole: true},
		{Proto: "icmp", Src: netip.MustParseAddr("10.0.0.1"), Port: 65535, Whole: true},
		{Proto: "icmp", Src: netip.MustParseAddr("fd00::1"), Port: 1, Whole: true},
	} {
		trail, err := OpenTrail(-1, m)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		have := run(t, "list ruleset")
		for _, rule := range m.plain() { // nft lists no port of a connection as it reads it
			if strings.Count(have, rule) != 3 {
				t.Errorf("%s is not there in\n%s", rule, have)
			}
		}
		if !strings.Contains(have, "flags owner") {
			t.Errorf("nobody owns\n%s", have)
		}
		if objs, err := c.Observe(); err != nil || len(objs) > 0 {
			t.Errorf("%v %v", objs, err)
		}
		if err := trail.Close(); err != nil {
			t.Error(err)
		}
		if left := run(t, "list tables"); left != "" {
			t.Errorf("left: %s", left)
		}
	}
	silent(t, ch)
}
