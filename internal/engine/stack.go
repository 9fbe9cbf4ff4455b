package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// A stack is the networks and services that one file says. They bear its name as a label
// and nothing else is kept of it: what is to be done is found by comparing, step by step,
// and each step leaves a label or nothing. So what was cut off is done by doing it again.

// Stack is what a stack is to be.
type Stack struct {
	Name     string
	Networks []NetworkSpec
	External []string // names of networks that are somebody else's and have to be there
	Services []ServiceSpec
}

// Step is one change that makes a stack what it is to be.
type Step struct {
	Line  string // as "+ network app": + makes, ~ changes, - removes
	do    func(context.Context) error
	apart bool // others do not stand on it
}

// PlanStack returns the steps that ApplyStack would take, and changes nothing. What cannot
// be, or cannot change, is an error of kind Conflict, NotFound or Invalid.
func (e *Engine) PlanStack(ctx context.Context, s Stack) ([]Step, error) {
	if err := model.CheckName(s.Name); err != nil {
		return nil, model.Errorf(model.Invalid, "stack "+s.Name, "apply", "%w", err)
	}
	p := &stackPlan{e: e, Stack: s, networks: map[string]*model.Network{}}
	for _, n := range e.networks() {
		p.networks[n.Name] = n
	}
	for _, name := range s.External {
		if p.networks[name] == nil {
			return nil, model.Errorf(model.NotFound, "network "+name, "apply", "no such network").WithHint("it is external to stack %s: make it first", s.Name)
		}
	}
	for _, spec := range s.Networks {
		if err := p.network(spec); err != nil {
			return nil, err
		}
	}
	if err := e.makeable(ctx, p.fresh); err != nil {
		return nil, err
	}
	if err := p.compare(); err != nil {
		return nil, err
	}
	if err := p.servable(ctx); err != nil {
		return nil, err
	}
	p.serve()
	p.clear()
	return p.steps, nil
}

// ApplyStack makes a stack what it is to be, and returns the steps it took. When one
// cannot be taken, those that may stand on it are not, and the error is a
// [model.UnfinishedError].
func (e *Engine) ApplyStack(ctx context.Context, s Stack) ([]Step, error) {
	steps, err := e.PlanStack(ctx, s)
	if err != nil {
		return nil, err
	}
	var done, left []Step
	var first error
	for i, step := range steps {
		err := step.do(ctx)
		if err == nil {
			done = append(done, step)
			continue
		}
		if first == nil {
			first = err
		}
		if left = append(left, step); !step.apart {
			left = append(left, steps[i+1:]...)
			break
		}
	}
	if first != nil {
		return done, &model.UnfinishedError{Err: first, Done: linesOf(done), Left: linesOf(left)}
	}
	return steps, nil
}

func linesOf(steps []Step) []string {
	out := make([]string, len(steps))
	for i, s := range steps {
		out[i] = s.Line
	}
	return out
}

// StackParts is what there is of a stack.
type StackParts struct {
	Name               string
	Networks, Services []string // names
}

// Stacks lists the stacks that something is of, by name.
func (e *Engine) Stacks() []StackParts {
	all := map[string]*StackParts{}
	part := func(labels map[string]string) *StackParts {
		name, has := labels[model.StackLabel]
		if !has {
			return &StackParts{}
		}
		if all[name] == nil {
			all[name] = &StackParts{Name: name}
		}
		return all[name]
	}
	for _, n := range e.Networks() {
		s := part(n.Labels)
		s.Networks = append(s.Networks, n.Name)
	}
	for _, o := range e.Services() {
		s := part(o.Labels)
		s.Services = append(s.Services, o.Name)
	}
	out := make([]StackParts, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		slices.Sort(all[name].Networks)
		out = append(out, *all[name])
	}
	return out
}

// RemoveStack removes all that is of a stack, services first. What came before an error is
// gone; a stack that nothing is of is NotFound.
func (e *Engine) RemoveStack(ctx context.Context, name string) error {
	if !slices.ContainsFunc(e.Stacks(), func(s StackParts) bool { return s.Name == name }) {
		return model.Errorf(model.NotFound, "stack "+name, "remove", "no such stack").WithHint("sealane stack ls shows those there are")
	}
	_, err := e.ApplyStack(ctx, Stack{Name: name})
	return err
}

// stackPlan is a plan in the making.
type stackPlan struct {
	Stack
	e        *Engine
	networks map[string]*model.Network // that there are, by name
	fresh    []NetworkSpec             // that there are not yet
	same     []pairing
	gone     []Service // that the stack has no more
	steps    []Step
}

// pairing is a service as it is to be, and as it is, if it is there.
type pairing struct {
	spec   ServiceSpec
	have   Service
	leaves bool // it is not to be, and spec is only what it is called
	serviceChange
}

// String is what the service is called, and where.
func (c pairing) String() string { return c.spec.Name + " on " + c.spec.Network }

func (p *stackPlan) step(line string, do func(context.Context) error) {
	p.steps = append(p.steps, Step{Line: line, do: do})
}

// owned refuses what is there and is not of the stack.
func (p *stackPlan) owned(ref string, labels map[string]string, hint string) error {
	switch of, has := labels[model.StackLabel]; {
	case !has:
		return model.Errorf(model.Conflict, ref, "apply", "is there, and of no stack").WithHint("%s", hint)
	case of != p.Name:
		return model.Errorf(model.Conflict, ref, "apply", "is there, and of stack %s", of).WithHint("%s", hint)
	}
	return nil
}

// compare looks at the services there are.
func (p *stackPlan) compare() error {
	all := p.e.Services()
	for _, spec := range p.Services {
		if spec.Labels = p.labels(spec.Labels); len(spec.Ports) == 0 {
			spec.Ports = targetsOf(spec.Publish)
		}
		pair := pairing{spec: spec, serviceChange: serviceChange{add: spec.Publish}}
		n := p.networks[spec.Network]
		i := slices.IndexFunc(all, func(s Service) bool {
			return n != nil && s.Network.ID == n.ID && strings.EqualFold(s.Name, spec.Name)
		})
		if err := possible(spec, i < 0); err != nil {
			return err
		}
		if i >= 0 {
			pair.have = all[i]
			if err := p.owned(pair.have.Ref(), pair.have.Labels, "give the stack's another name, or sealane service rm "+spec.Network+"/"+spec.Name); err != nil {
				return err
			}
			if pair.have.DNSRR != spec.DNSRR {
				return model.Errorf(model.Conflict, pair.have.Ref(), "apply", "endpoint_mode is %s and cannot be %s", endpointMode(!spec.DNSRR), endpointMode(spec.DNSRR)).
					WithHint("sealane service rm %s/%s, then apply again", spec.Network, spec.Name)
			}
			pair.serviceChange = changeOf(pair.have.Service, spec)
			all = slices.Delete(all, i, i+1)
		}
		p.same = append(p.same, pair)
	}
	for _, s := range all {
		if s.Labels[model.StackLabel] == p.Name {
			p.gone = append(p.gone, s)
		}
	}
	return nil
}

// possible refuses a service that cannot be, wherever, or that cannot be made.
func possible(spec ServiceSpec, isNew bool) error {
	s := model.Service{Name: spec.Name, Ports: spec.Ports, DNSRR: spec.DNSRR, Publish: spec.Publish, Health: spec.Health}
	if isNew {
		return s.CheckNew()
	}
	return s.Validate()
}

// endpointMode is what Compose calls how a service is asked for.
func endpointMode(dnsrr bool) string {
	if dnsrr {
		return "dnsrr"
	}
	return "vip"
}

// labels are those of a part of the stack.
func (p *stackPlan) labels(given map[string]string) map[string]string {
	all := map[string]string{model.StackLabel: p.Name}
	maps.Copy(all, given)
	return all
}

// serve removes services, makes new ones and changes those that differ. Published ports that
// one of them gives up and another is to have change hands at once, so that somebody answers
// there all the time: who is to have one is made before that, who had one removed after.
func (p *stackPlan) serve() {
	all := p.pairings()
	var passing, others, late []pairing
	for _, c := range all {
		handed, rest := c.handed(all)
		switch {
		case c.leaves && len(handed) == 0:
			p.remove(c)
		case c.leaves:
			passing, late = append(passing, pairing{spec: c.spec, have: c.have, serviceChange: serviceChange{drop: handed}}), append(late, c)
		case len(handed) == 0:
			others = append(others, c)
		case c.have.Service == nil:
			passing = append(passing, pairing{spec: c.spec, serviceChange: serviceChange{add: handed}})
			c.spec.Publish = rest
			p.create(c)
		default:
			passing = append(passing, c)
		}
	}
	p.change(passing...)
	for _, c := range late {
		p.remove(c)
	}
	for _, c := range others {
		switch {
		case c.have.Service == nil:
			p.create(c)
		case c.any():
			p.change(c)
		}
	}
}

// pairings are those that the stack has no more, and all that it is to have.
func (p *stackPlan) pairings() []pairing {
	var all []pairing
	for _, s := range p.gone {
		all = append(all, pairing{spec: ServiceSpec{Name: s.Name, Network: s.Network.Name}, have: s, leaves: true, serviceChange: serviceChange{drop: s.Publish}})
	}
	return append(all, p.same...)
}

func (p *stackPlan) remove(c pairing) {
	p.step("- service "+c.String(), func(ctx context.Context) error { return p.e.RemoveService(ctx, string(c.have.ID)) })
}

func (p *stackPlan) create(c pairing) {
	p.step("+ service "+c.String()+": "+newService(c.spec), func(ctx context.Context) error {
		_, err := p.e.CreateService(ctx, c.spec)
		return err
	})
}

// change adds a step for each of some services, which are all taken with the first.
func (p *stackPlan) change(all ...pairing) {
	var refs []string
	var ups []ServiceUpdate
	for i, c := range all {
		refs, ups = append(refs, c.spec.Network+"/"+c.spec.Name), append(ups, c.update())
		p.step("~ service "+c.String()+": "+c.serviceChange.String(), func(ctx context.Context) error {
			if i > 0 {
				return nil
			}
			for _, c := range all {
				p.e.choosable(ctx, c)
			}
			_, err := p.e.updateServices(ctx, refs, ups)
			return err
		})
	}
}

// choosable waits until a backend of a service that was just made can be chosen, if it has
// some that may be in a moment.
func (e *Engine) choosable(ctx context.Context, c pairing) {
	e.settled(ctx, func() bool {
		now, err := e.findService(c.spec.Network+"/"+c.spec.Name, "find")
		has := func(st model.MemberState) bool {
			return slices.ContainsFunc(now.Backends, func(b model.Member) bool { return b.State == st })
		}
		return c.have.Service != nil || err != nil || has(model.MemberReady) || !has(model.MemberStarting)
	})
}

// handed are the published ports that a service gives up or is to have, and another one the
// other way; rest are the others that it is to have.
func (c pairing) handed(all []pairing) (handed, rest []model.Publish) {
	changes := func(p model.Publish, list func(pairing) []model.Publish) bool {
		return slices.ContainsFunc(all, func(o pairing) bool {
			return slices.ContainsFunc(list(o), func(q model.Publish) bool { return servicePort(q) == servicePort(p) })
		})
	}
	for _, p := range c.drop {
		if changes(p, func(o pairing) []model.Publish { return o.add }) {
			handed = append(handed, p)
		}
	}
	for _, p := range c.add {
		if changes(p, func(o pairing) []model.Publish { return o.drop }) {
			handed = append(handed, p)
		} else {
			rest = append(rest, p)
		}
	}
	return handed, rest
}

// clear removes the networks that the stack has no more.
func (p *stackPlan) clear() {
	for _, name := range slices.Sorted(maps.Keys(p.networks)) {
		n := p.networks[name]
		if n.Labels[model.StackLabel] != p.Name || slices.ContainsFunc(p.Networks, func(s NetworkSpec) bool { return s.Name == name }) {
			continue
		}
		p.step("- network "+name, func(ctx context.Context) error {
			if err := p.e.RemoveNetwork(ctx, name); err != nil {
				return err
			}
			p.e.settled(ctx, func() bool { there, err := p.e.Network(string(n.ID)); return err != nil || there.ID != n.ID })
			return nil
		})
		p.steps[len(p.steps)-1].apart = true
	}
}

// settled waits until this host has heard of a change in the cluster, which is done; but
// not for long.
func (e *Engine) settled(ctx context.Context, heard func() bool) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	for !heard() {
		select {
		case <-ctx.Done():
			return // the news is late
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// newService is what there is to say of a service that is to be made.
func newService(s ServiceSpec) string {
	var ports []string
	for _, p := range s.Ports {
		ports = append(ports, p.String())
	}
	words := []string{"port " + strings.Join(ports, " ")}
	if s.DNSRR {
		words = append(words, "endpoint_mode dnsrr")
	}
	change := serviceChange{add: s.Publish, more: s.Labels}
	if s.Health != nil {
		wish := model.WishHealth(s.Health)
		change.health = &wish
	}
	if s.Balance != "" {
		change.balance = &s.Balance
	}
	if s.Nearby {
		change.nearby = &s.Nearby
	}
	change.more = maps.Clone(s.Labels)
	delete(change.more, model.StackLabel)
	if change.any() {
		words = append(words, change.String())
	}
	return strings.Join(words, ", ")
}

// balanceName is what users call a way to choose.
func balanceName(b model.Balance) string { return string(cmp.Or(b, model.BalanceRandom)) }
