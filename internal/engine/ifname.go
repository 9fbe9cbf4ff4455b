package engine

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// defaultPrefix is how interfaces' names begin where a network says nothing else.
const defaultPrefix = "eth"

// ifName decides an interface's name: the wanted one, or prefix with the lowest
// number that is free in the sandbox.
func (d *draft) ifName(ctx context.Context, sb *model.Sandbox, prefix, want string, later []EndpointSpec) (string, error) {
	taken, theirs := map[string]bool{"lo": true}, map[string]bool{}
	for _, ep := range sb.Endpoints {
		taken[ep.IfName] = true
	}
	if d.inhabited(sb) {
		there, err := d.look(ctx, sb.NetNS)
		if err != nil {
			return "", internal(d.ref, d.op, err)
		}
		if there != nil {
			maps.Copy(taken, there.names)
			theirs = there.theirs
		}
	}
	if want != "" {
		if err := model.CheckIfName(want); err != nil {
			return "", d.errorf(model.Invalid, "%w", err)
		}
		if taken[want] {
			return "", d.errorf(model.Conflict, "interface %s: exists in the sandbox", want)
		}
		return want, nil
	}
	for _, es := range later {
		taken[es.IfName] = true
	}
	for i := firstNumber(sb, prefix, theirs); ; i++ {
		if name := prefix + strconv.Itoa(i); !taken[name] {
			return name, nil
		}
	}
}

// firstNumber is what the names of a sandbox's interfaces begin with that have a prefix.
// Docker and Podman count the networks that they put a container on, and do not look
// which names it has: a low one would be in the way of the next, unless they put it on
// none.
func firstNumber(sb *model.Sandbox, prefix string, theirs map[string]bool) int {
	own := func(name string) bool { return strings.HasPrefix(name, prefix) }
	counts := sb.Guest != nil && (sb.Guest.Runtime == model.RuntimeDocker || sb.Guest.Runtime == model.RuntimePodman)
	switch {
	case counts && (sb.Away() && prefix == defaultPrefix || slices.ContainsFunc(slices.Collect(maps.Keys(theirs)), own)):
		return 100
	case sb.Away():
		return 1 // its runtime will call its own the first
	}
	return 0
}
