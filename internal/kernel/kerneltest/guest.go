package kerneltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Somebody else's firewall, of two families.
var (
	theirs   = kstate.Table{Family: "ip", Name: "filter"}
	theirs6  = kstate.Table{Family: "inet", Name: "firewalld"}
	policy   = kstate.Chain{Table: theirs, Name: "FORWARD", Type: "filter policy drop", Hook: "forward", Rules: []string{"jump DOCKER-USER"}}
	user     = kstate.Chain{Table: theirs, Name: "DOCKER-USER", Rules: []string{"counter return"}}
	rejects  = kstate.Chain{Table: theirs6, Name: "filter_INPUT", Type: "filter", Hook: "input", Priority: 10, Rules: []string{"ct state established accept", "reject"}}
	passUser = kstate.Guest{Table: theirs, Chain: "DOCKER-USER", At: "before-last", Rule: "meta mark and 0x10000000 == 0x10000000 accept"}
	passAll  = kstate.Guest{Table: theirs6, Chain: "filter_INPUT", At: "first", Rule: "meta mark and 0x10000000 == 0x10000000 accept"}
)

// live lets somebody else make the firewall.
func (s *suite) live() {
	s.Helper()
	for _, c := range []kstate.Chain{user, policy, rejects} {
		s.Outside.Chain(s.T, c)
	}
}

// guestCases: rules of ours in tables of others.
var guestCases = []testcase{
	{"comes and goes", func(s *suite) {
		s.live()
		s.comesAndGoes(passUser, passAll)
	}},
	{"another place is no difference", func(s *suite) {
		s.live()
		s.add(passAll)
		moved := passAll
		moved.At = "last"
		s.add(moved)
		s.holds(passAll)
		s.del(moved)
		s.holds()
	}},
	{"two in one chain", func(s *suite) {
		s.live()
		second := passAll
		second.Rule = "iifname br0 accept"
		s.comesAndGoes(passAll, second)
	}},
	{"tables of others are not ours", func(s *suite) {
		s.live()
		s.holds()
		s.apply(kstate.Diff(s.observe(), set(table))...)
		s.add(passUser, passAll)
		s.holds(table, passUser, passAll)
	}},
	{"without the table or the chain", func(s *suite) {
		s.refuses(kernel.ErrMissing, passUser)
		s.Outside.Chain(s.T, policyAlone())
		s.refuses(kernel.ErrMissing, passUser)
		s.del(passUser, passAll)
	}},
	{"what is no rule", func(s *suite) {
		s.live()
		for _, change := range []func(*kstate.Guest){
			func(g *kstate.Guest) { g.Rule = "nonsense" },
			func(g *kstate.Guest) { g.Rule = "jump DOCKER-USER" },
			func(g *kstate.Guest) { g.At = "somewhere" },
			func(g *kstate.Guest) { g.Table = table },
		} {
			g := passUser
			change(&g)
			s.refuses(nil, g)
		}
	}},
	{"one that cannot be keeps no op beside it from being done", func(s *suite) {
		s.live()
		nowhere := passUser
		nowhere.Chain = "gone"
		err := s.fails(Adds(table, *bridges, elem(bridges, "slb1", ""), nowhere, passAll)...)
		if !errors.Is(err, kernel.ErrMissing) {
			s.Errorf("error is %v", err)
		}
		s.holds(table, *bridges, elem(bridges, "slb1", ""), passAll)
	}},
	{"stays when our own table is made anew", func(s *suite) {
		s.live()
		s.reach(set(append(firewall(), passUser)...))
		s.reach(set(table, passUser))
	}},
	{"goes with the table, and is made again", func(s *suite) {
		s.live()
		want := set(append(firewall(), passUser, passAll)...)
		s.reach(want)
		s.Outside.DropTable(s.T, theirs)
		s.holds(append(firewall(), passAll)...)
		s.live()
		s.reach(want)
		s.Outside.Flush(s.T)
		s.holds()
		s.live()
		s.reach(want)
	}},
	{"a new process sees it, and removes it", func(s *suite) {
		s.live()
		s.add(passUser, passAll)
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(passUser, passAll)
		s.reach(kstate.Set{})
	}},
	{"hints: when others make or delete what guests stand on, not for our own", func(s *suite) {
		s.live()
		hinted := s.watch()
		s.add(passUser, passAll)
		s.del(passUser)
		if hinted(500 * time.Millisecond) {
			s.Error("a hint for our own ops")
		}
		s.Outside.DropTable(s.T, theirs)
		if !hinted(3 * time.Second) {
			s.Error("no hint for a table deleted")
		}
		for hinted(300 * time.Millisecond) {
		}
		s.live()
		if !hinted(3 * time.Second) {
			s.Error("no hint for a table made")
		}
	}},
	{"filters: what others do with packets of the host", func(s *suite) {
		s.filters()
		s.add(append(firewall(), frames()...)...)
		s.filters() // ours are none
		s.live()
		want := []string{
			`inet firewalld filter_INPUT: input 10 accept stops [] reaches [] ends "last"`,
			`ip filter FORWARD: forward 0 drop passes [DOCKER-USER] reaches [DOCKER-USER] ends "policy"`,
		}
		s.filters(want...)
		s.add(passUser, passAll)
		s.filters(want...)
		s.Outside.Chain(s.T, kstate.Chain{Table: theirs, Name: "INPUT", Type: "filter", Hook: "input", Rules: []string{"jump block"}})
		s.Outside.Chain(s.T, kstate.Chain{Table: theirs, Name: "block", Rules: []string{"drop"}})
		s.Outside.Chain(s.T, kstate.Chain{Table: kstate.Table{Family: "ip", Name: "nat"}, Name: "POSTROUTING", Type: "nat", Hook: "postrouting", Priority: 100})
		s.filters(`inet firewalld filter_INPUT: input 10 accept stops [] reaches [] ends "last"`,
			`ip filter FORWARD: forward 0 drop passes [DOCKER-USER block] reaches [DOCKER-USER] ends "policy"`,
			`ip filter INPUT: input 0 accept stops [DOCKER-USER block] reaches [block] ends "inside"`)
	}},
}

// policyAlone is the base chain without the chain it leads to.
func policyAlone() kstate.Chain {
	c := policy
	c.Rules = nil
	return c
}

// filters checks what the kernel says of others' chains.
func (s *suite) filters(want ...string) {
	s.Helper()
	k, ok := s.Kernel.(interface {
		Filters(context.Context) ([]kstate.Filter, error)
	})
	if !ok {
		s.Fatal("the kernel says nothing of filters")
	}
	got, err := k.Filters(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	var text []string
	for _, f := range got {
		word := "passes"
		if f.Stops {
			word = "stops"
		}
		text = append(text, fmt.Sprintf("%s %s %s: %s %d %s %s %v reaches %v ends %q", f.Table.Family, f.Table.Name, f.Chain, f.Hook, f.Priority, f.Policy, word, f.Chains, f.Reached, f.Ends))
	}
	slices.Sort(text)
	if !slices.Equal(text, want) {
		s.Errorf("filters are\n%s\nwant\n%s", strings.Join(text, "\n"), strings.Join(want, "\n"))
	}
}
