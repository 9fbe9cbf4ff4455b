package trace

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
)

// owner is whose our tables are.
const owner = "Sealane's"

// owners tells whose a chain or a table is, by the beginning of its name, and what has its
// owner let a packet pass.
var owners = []struct{ chain, table, name, hint string }{
	{"", tableName, owner, ""},
	{"DOCKER", "docker-bridges", "Docker's", "a rule in chain DOCKER-USER is asked before Docker's own"},
	{"ufw", "", "ufw's", "ufw status numbered lists its rules; ufw route allow lets through what is forwarded, ufw allow what is for the host"},
	{"", "firewalld", "firewalld's", "firewall-cmd --list-all-zones and --list-all-policies list its rules"},
	{"f2b-", "f2b-table", "fail2ban's", "fail2ban-client status lists whom it shuts out"},
	{"LIBVIRT", "libvirt_network", "libvirt's", ""},
	{"NETAVARK", "netavark", "Podman's", ""},
	{"KUBE-", "kube-proxy", "kube-proxy's", ""},
	{"cali-", "calico", "Calico's", ""},
	{"FLANNEL", "flannel", "Flannel's", ""},
	{"CNI-", "cni_plugins", "a CNI plugin's", ""},
	{"", "nm-", "NetworkManager's", ""},
}

// owner says whose a chain is that decided: by its own name, by the names of the chains
// that led to it, by its table; of a policy of iptables also by whose chains are there.
func (s Scene) owner(v visit) string {
	var said []string
	for i := len(v.said) - 1; i >= 0; i-- {
		said = append(said, v.said[i].Chain)
	}
	for _, o := range owners {
		if o.table != "" && strings.HasPrefix(v.Table.Name, o.table) || o.chain != "" && slices.ContainsFunc(said, func(c string) bool { return strings.HasPrefix(c, o.chain) }) {
			return o.name
		}
	}
	if v.Owned {
		return "its owner's alone to change"
	}
	return s.whoseFilter(v.Table, v.Chain)
}

// whoseFilter says whose a chain of a table that several share may be.
func (s Scene) whoseFilter(t kstate.Table, chain string) string {
	var names []string
	for _, f := range s.Filters {
		if f.Table != t || f.Chain != chain {
			continue
		}
		for _, o := range owners {
			if o.chain != "" && slices.ContainsFunc(f.Chains, func(c string) bool { return strings.HasPrefix(c, o.chain) }) {
				names = append(names, o.name)
			}
		}
	}
	switch shared := t.Family == "ip" || t.Family == "ip6"; {
	case len(names) > 0:
		return strings.Join(names, " or ")
	case shared && slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, t.Name):
		return "iptables'"
	}
	return "somebody else's"
}

// hint says what would have a packet pass where it was dropped.
func (s Scene) hint(at Sight) string {
	if at.Owner == owner {
		return s.explained()
	}
	hints := []string{fmt.Sprintf("nft -a list chain %s %s shows it", at.Table, at.Chain)}
	for _, o := range owners {
		if o.hint != "" && strings.Contains(at.Owner, o.name) {
			hints = append(hints, o.hint)
		}
	}
	if at.Where != hostName {
		hints[0] += ", in its namespace"
	}
	return strings.Join(append(hints, "docs/others.md tells how Sealane lives with others' filters"), "; ")
}
