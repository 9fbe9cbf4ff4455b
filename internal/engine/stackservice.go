package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// serviceChange is in what a service differs from what it is to be.
type serviceChange struct {
	add, drop []model.Publish
	ports     []model.ServicePort // all of them; nil: as they are
	shown     []string            // how ports change
	balance   *model.Balance
	nearby    *bool
	health    *model.HealthWish
	more      map[string]string // of labels: new, or with another value
	less      []string          // labels that go
}

// changeOf compares a service with what it is to be.
func changeOf(have *model.Service, want ServiceSpec) (c serviceChange) {
	c.add = slices.DeleteFunc(slices.Clone(want.Publish), func(p model.Publish) bool { return hasPublish(have.Publish, p) })
	c.drop = slices.DeleteFunc(slices.Clone(have.Publish), func(p model.Publish) bool { return hasPublish(want.Publish, p) })
	for _, p := range want.Ports {
		if !slices.Contains(have.Ports, p) {
			c.ports, c.shown = want.Ports, append(c.shown, "+"+p.String())
		}
	}
	for _, p := range have.Ports {
		if !slices.Contains(want.Ports, p) {
			c.ports, c.shown = want.Ports, append(c.shown, "-"+p.String())
		}
	}
	if have.Balance != want.Balance {
		c.balance = &want.Balance
	}
	if have.Nearby != want.Nearby {
		c.nearby = &want.Nearby
	}
	if !model.SameHealth(have.Health, want.Health) {
		wish := model.WishHealth(want.Health)
		c.health = &wish
	}
	c.more, c.less = labelChange(have.Labels, want.Labels)
	return c
}

// hasPublish reports whether a port is published just so.
func hasPublish(all []model.Publish, p model.Publish) bool {
	return slices.ContainsFunc(all, func(o model.Publish) bool {
		return o.Port == p.Port && o.Target == p.Target && o.Proto == p.Proto && o.Local == p.Local && slices.Equal(o.Addrs, p.Addrs)
	})
}

// labelChange says which labels to set and which to drop.
func labelChange(have, want map[string]string) (more map[string]string, less []string) {
	more = map[string]string{}
	for k, v := range want {
		if was, has := have[k]; !has || was != v {
			more[k] = v
		}
	}
	for _, k := range slices.Sorted(maps.Keys(have)) {
		if _, stays := want[k]; !stays {
			less = append(less, k)
		}
	}
	return more, less
}

// any reports whether there is something to change.
func (c serviceChange) any() bool {
	return len(c.add)+len(c.drop)+len(c.shown)+len(c.more)+len(c.less) > 0 || c.balance != nil || c.nearby != nil || c.health != nil
}

// String is the change in a line: "publish +8080:80/tcp, lb hash, label +a=b -c".
func (c serviceChange) String() string {
	var words []string
	if len(c.add)+len(c.drop) > 0 {
		var publish []string
		for _, p := range c.drop {
			publish = append(publish, "-"+p.String())
		}
		for _, p := range c.add {
			publish = append(publish, "+"+p.String())
		}
		words = append(words, "publish "+strings.Join(publish, " "))
	}
	if len(c.shown) > 0 {
		words = append(words, "port "+strings.Join(c.shown, " "))
	}
	if c.balance != nil {
		words = append(words, "lb "+balanceName(*c.balance))
	}
	if c.nearby != nil {
		words = append(words, fmt.Sprintf("publish-local-first %t", *c.nearby))
	}
	if c.health != nil {
		words = append(words, healthWords(*c.health)...)
	}
	if text := labelWords(c.more, c.less); text != "" {
		words = append(words, text)
	}
	return strings.Join(words, ", ")
}

// healthWords are the checks that there are to be, without what is usual.
func healthWords(w model.HealthWish) []string {
	words := []string{"health " + w.What}
	usual, err := model.HealthWish{What: w.What}.Of(nil)
	if err != nil || usual == nil {
		return words
	}
	if w.Interval != usual.Interval {
		words = append(words, "health-interval "+w.Interval.String())
	}
	if w.Timeout != min(usual.Timeout, w.Interval) {
		words = append(words, "health-timeout "+w.Timeout.String())
	}
	if w.Retries != usual.Retries {
		words = append(words, fmt.Sprintf("health-retries %d", w.Retries))
	}
	return words
}

// labelWords is how labels change, or "".
func labelWords(more map[string]string, less []string) string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(more)) {
		words = append(words, "+"+k+"="+more[k])
	}
	for _, k := range less {
		words = append(words, "-"+k)
	}
	if len(words) == 0 {
		return ""
	}
	return "label " + strings.Join(words, " ")
}

// update is the change as UpdateService has it.
func (c serviceChange) update() ServiceUpdate {
	up := ServiceUpdate{Ports: c.ports, Balance: c.balance, Publish: c.add, Nearby: c.nearby, Labels: c.more, DropLabels: c.less}
	if c.health != nil {
		up.Health = *c.health
	}
	for _, gone := range c.drop {
		up.PublishRm = append(up.PublishRm, servicePort(gone))
	}
	return up
}
