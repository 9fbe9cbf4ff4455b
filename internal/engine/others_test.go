package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kstate"
)

// A firewall of somebody else's, as ufw's is.
var (
	theirTable   = kstate.Table{Family: "ip", Name: "filter"}
	theirForward = kstate.Chain{Table: theirTable, Name: "FORWARD", Type: "filter policy drop", Hook: "forward", Rules: []string{"jump ufw-before-forward"}}
	theirChain   = kstate.Chain{Table: theirTable, Name: "ufw-before-forward", Rules: []string{"ct state established accept"}}
)

const exception = "ip filter ufw-before-forward: meta mark and 0x10000000 == 0x10000000 accept"

// TestOthersReload: a firewall that is made anew, often, has our exception
// again within a second, and nobody calls it a fight.
func TestOthersReload(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.equal("what passes is marked without need", strings.Contains(r.k.Dump(), "meta mark set"), "false")
		for range 10 {
			r.k.Foreign(theirTable, theirChain, theirForward)
			r.wait(time.Second)
			if got := r.e.Exceptions(); !slices.Equal(got, []string{exception}) || !strings.Contains(r.k.Dump(), "guest "+exception) {
				t.Fatalf("exceptions %q\n%s", got, r.k.Dump())
			}
			r.equal("status", r.status().State, StateReady)
			r.equal("what passes is marked", strings.Contains(r.k.Dump(), "meta mark set"), "true")
			if ops := r.left(); len(ops) > 0 {
				t.Errorf("not as intended: %v", ops)
			}
			r.k.Remove(theirTable.Key())
			r.wait(time.Second)
			if got := r.e.Exceptions(); len(got) > 0 {
				t.Fatalf("without a firewall: exceptions %q", got)
			}
		}
	})
}

// TestOthersTakeAway: who takes our exception away all the time is told of.
func TestOthersTakeAway(t *testing.T) {
	inTime(t, func(r *rig) {
		r.k.Foreign(theirTable, theirChain, theirForward)
		r.begin()
		guest := kstate.Guest{Table: theirTable, Chain: theirChain.Name, Rule: "meta mark and 0x10000000 == 0x10000000 accept"}
		before := r.status().Since
		for range 300 {
			r.k.Remove(guest.Key())
			r.wait(100 * time.Millisecond)
		}
		if s := r.status(); s.State != StateConflict || !strings.Contains(s.Message, "removing sealane's rule") {
			t.Errorf("status %v", s)
		}
		conflict := r.status().Since
		r.wait(time.Minute)
		r.equal("status after", r.status().State, StateReady)
		r.equal("each since it began", conflict.After(before) && r.status().Since.After(conflict), "true")
		after := r.status().Since
		r.wait(time.Minute)
		r.equal("and no later", r.status().Since, after.String())
	})
}

// TestHelplessSince: that a firewall forbids what nobody can change has a beginning.
func TestHelplessSince(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.wait(time.Minute)
		began := time.Now()
		early := kstate.Chain{Table: theirTable, Name: "FORWARD", Type: "filter policy drop", Hook: "forward", Priority: -400}
		r.k.Foreign(theirTable, early)
		r.wait(time.Minute)
		s := r.status()
		if s.State != StateConflict || s.Since.Before(began) || time.Since(s.Since) < 20*time.Second {
			t.Errorf("status %v, began %v, is %v", s, began, time.Now())
		}
	})
}

// TestOthersBridges: bridges that lead to machines of others are known, those
// that lead out are not.
func TestOthersBridges(t *testing.T) {
	bridge := func(name string) kstate.Link { return kstate.Link{Name: name, Type: kstate.TypeBridge, Other: true} }
	port := func(name, master string, t kstate.LinkType) kstate.Link {
		return kstate.Link{Name: name, Type: t, Master: master, Other: true}
	}
	have := kstate.Set{}
	if err := have.Add(bridge("docker0"), port("veth1", "docker0", kstate.TypeVeth), bridge("virbr0"), port("vnet0", "virbr0", "tun"),
		bridge("br-lan"), port("eth0", "br-lan", "ether"), port("vnet1", "br-lan", "tun"), bridge("empty"),
		kstate.Link{Name: "slb0", Type: kstate.TypeBridge}); err != nil {
		t.Fatal(err)
	}
	if got := bridges(have); !slices.Equal(got, []string{"docker0", "empty", "virbr0"}) {
		t.Errorf("bridges %q", got)
	}
}
