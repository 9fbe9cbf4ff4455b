package main

import (
	"encoding/json"
	"slices"
)

func resultChecks() []check {
	var out []check
	for _, v := range released {
		out = append(out, check{"result." + v, "ADD Success", "must", "the result of ADD with `cniVersion` " + v + " has the form of that version, and all of what its interface has", "", func(t *trial) error {
			return resultForm(t, v)
		}})
	}
	return append(out,
		check{"result.sandbox", "ADD Success", "must", "`sandbox` is what CNI_NETNS was, also when that is another path of the namespace", "", resultSandbox},
		check{"result.host-side", "ADD Success", "must", "interfaces of the result that are on the host are there, with the MAC of the result", "", resultHostSide},
		check{"result.dns", "ADD Success", "should", "`dns` of the configuration is in the result", "", resultDNS},
	)
}

func resultForm(t *trial, v string) error {
	if !slices.Contains(t.versions, v) {
		return inapplicable("it does not announce %s", v)
	}
	a, err := t.fresh(version(v))
	if err != nil {
		return err
	}
	r, err := parse(v, a.out.stdout)
	if err != nil {
		return seen("%v: %v", a.out, err)
	}
	if !atLeast(v, "0.3.0") {
		return a.hasAddress(r)
	}
	if len(r.Interfaces) == 0 || len(r.IPs) == 0 {
		return seen("no interfaces or no ips: %v", a.out)
	}
	return a.asReported()
}

// hasAddress compares the device with a result of the older form.
func (a *attachment) hasAddress(r *result) error {
	l, err := a.link()
	if err != nil {
		return err
	}
	if want := r.address().String(); !slices.Contains(l.addresses, want) {
		return seen("the result has %s, the interface %v", want, l.addresses)
	}
	return nil
}

func resultSandbox(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	path := "/run/netns/../netns/" + c.path[len("/run/netns/"):]
	a, err := t.add(n, c, "eth0", variable("CNI_NETNS", path))
	if err != nil {
		return err
	}
	if _, in := a.result.inside(path, "eth0"); in == nil {
		return seen("no interface with the sandbox %s: %v", path, a.out)
	}
	return nil
}

func resultHostSide(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	host, err := (*space)(nil).links()
	if err != nil {
		return err
	}
	asked := false
	for _, i := range a.result.Interfaces {
		if i.Sandbox != "" {
			continue
		}
		asked = true
		l, ok := host[i.Name]
		if !ok {
			return seen("%s is not on the host", i.Name)
		}
		if i.MAC != "" && i.MAC != l.mac {
			return seen("the result has another MAC of %s (%s) than the host", i.Name, l.kind)
		}
	}
	if !asked {
		return inapplicable("no interface of the host in the result")
	}
	return nil
}

func resultDNS(t *trial) error {
	want := dns{Nameservers: []string{"192.0.2.53"}, Domain: "example.org", Search: []string{"example.org"}, Options: []string{"ndots:2"}}
	a, err := t.fresh(key("dns", map[string]any{"nameservers": want.Nameservers, "domain": want.Domain, "search": want.Search, "options": want.Options}))
	if err != nil {
		return err
	}
	got := a.result.DNS
	if got.Domain != want.Domain || !contains(got.Nameservers, want.Nameservers) || !contains(got.Search, want.Search) || !contains(got.Options, want.Options) {
		text, _ := json.Marshal(got)
		return seen("dns %s", text)
	}
	return nil
}

// contains says whether all of part are in whole.
func contains(whole, part []string) bool {
	return !slices.ContainsFunc(part, func(x string) bool { return !slices.Contains(whole, x) })
}
