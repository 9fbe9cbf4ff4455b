package compile

import (
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// asPipework has a port of Open vSwitch that a pipework command made say what the
// script's port says, beside what ours do: other scripts ask for that.
func asPipework(s kstate.Set, sb *model.Sandbox, e *model.Endpoint, n *model.Network) {
	port, ok := s[kstate.OVSPort{Device: e.Device()}.Key()].(kstate.OVSPort)
	if !ok || e.Plug == nil {
		return
	}
	say := func(key, value string) {
		if value != "" {
			port.IDs["pipework."+key] = value
		}
	}
	say("interface", e.Device())
	say("bridge", n.Device())
	if vlan := n.VLANOf(e); vlan != 0 {
		say("vlan", strconv.Itoa(vlan))
	}
	if g := sb.Guest; g != nil && g.Runtime == model.RuntimeDocker {
		say("containerid", g.ID)
		say("containername", "/"+g.Name)
	}
	if pid, ok := strings.CutPrefix(sb.NetNS, "/proc/"); ok {
		pid, _, _ = strings.Cut(pid, "/")
		say("nspid", pid)
	}
}
