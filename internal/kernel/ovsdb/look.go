package ovsdb

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/sealane/sealane/internal/kstate"
)

// bridge is a row of table Bridge.
type bridge struct {
	uuid, name, datapath string
	ours                 bool
	ports                []string // identities
	broken               string
	hwaddr, held         string // see HoldAddr
}

func (b bridge) object() kstate.OVSBridge {
	return kstate.OVSBridge{Name: b.name, Datapath: b.datapath, Broken: b.broken, Other: !b.ours}
}

// port is a row of table Port.
type port struct {
	uuid, name, bridge string
	mode               string
	tag, trunks        []int
	ids                map[string]string
	broken             string
	stale              bool
}

func (p port) ours() bool { return p.ids[ownerKey] == owner }

// object returns a port as it is. A mode that no port of ours has is a reason to
// set it again.
func (p port) object() kstate.OVSPort {
	o := kstate.OVSPort{Bridge: p.bridge, Device: p.name, Broken: p.broken, Stale: p.stale, IDs: p.ids}
	tag := 0
	if len(p.tag) > 0 {
		tag = p.tag[0]
	}
	switch {
	case (p.mode == "access" || p.mode == "") && len(p.tag) > 0 && len(p.trunks) == 0:
		o.Tag = tag
	case (p.mode == "trunk" || p.mode == "") && len(p.tag) == 0:
		o.Trunks, o.All = p.trunks, len(p.trunks) == 0
	case p.mode == "native-untagged" && len(p.trunks) > 0:
		o.Tag, o.Trunks = tag, p.trunks
	case o.Broken == "":
		o.Broken = fmt.Sprintf("vlan_mode is %q, tag %v, trunks %v", p.mode, p.tag, p.trunks)
	}
	return o
}

// configured returns a port as the database has it, whatever came of it.
func (p port) configured() kstate.OVSPort {
	p.broken, p.stale = "", false
	return p.object()
}

// table is what the database has.
type table struct {
	bridges map[string]bridge // all, by name
	ports   map[string]port   // by name: all of ours, and those that were asked for
}

// look reads all bridges, and the ports and their interfaces: those that are ours,
// or have one of the names.
func (s *session) look(ours bool, names ...string) (table, error) {
	portColumns := []string{"_uuid", "name", "tag", "trunks", "vlan_mode", "external_ids"}
	interfaceColumns := []string{"name", "error", "ofport"}
	ops := []operation{
		rowsOf("Bridge", nil, "_uuid", "name", "datapath_type", "ports", "external_ids", "other_config"),
	}
	if ours {
		ops = append(ops,
			rowsOf("Interface", []any{marked()}, interfaceColumns...),
			rowsOf("Port", []any{marked()}, portColumns...))
	}
	for _, n := range names {
		ops = append(ops,
			rowsOf("Interface", []any{is("name", n)}, interfaceColumns...),
			rowsOf("Port", []any{is("name", n)}, portColumns...))
	}
	out, err := s.transact(answerTime, ops...)
	if err != nil {
		return table{}, err
	}
	var interfaces, ports []row
	for i := 1; i < len(ops); i += 2 {
		interfaces = append(interfaces, out[i].Rows...)
		ports = append(ports, out[i+1].Rows...)
	}
	return parseTable(out[0].Rows, interfaces, ports)
}

// parseTable reads rows of the three tables.
func parseTable(bridges, interfaces, ports []row) (table, error) {
	t := table{map[string]bridge{}, map[string]port{}}
	troubles := map[string]string{}
	for _, r := range interfaces {
		name, err := r.text("name")
		if err != nil {
			return t, err
		}
		if troubles[name], err = trouble(r); err != nil {
			return t, err
		}
	}
	home := map[string]string{}
	for _, r := range bridges {
		b, err := parseBridge(r)
		if err != nil {
			return t, err
		}
		if b.ours {
			b.broken = troubles[b.name]
		}
		t.bridges[b.name] = b
		for _, id := range b.ports {
			home[id] = b.name
		}
	}
	for _, r := range ports {
		p, err := parsePort(r)
		if err != nil {
			return t, err
		}
		p.bridge, p.broken = home[p.uuid], troubles[p.name]
		t.ports[p.name] = p
	}
	return t, nil
}

func parseBridge(r row) (b bridge, err error) {
	ids, e1 := r.pairs("external_ids")
	ports, e2 := r.texts("ports")
	uuid, e3 := r.text("_uuid")
	name, e4 := r.text("name")
	datapath, e5 := r.text("datapath_type")
	config, e6 := r.pairs("other_config")
	if datapath == "" {
		datapath = "system"
	}
	b = bridge{uuid: uuid, name: name, datapath: datapath, ours: ids[ownerKey] == owner, ports: ports, hwaddr: config[hwaddrKey], held: ids[heldKey]}
	return b, errors.Join(e1, e2, e3, e4, e5, e6)
}

func parsePort(r row) (p port, err error) {
	errs := make([]error, 6)
	p.uuid, errs[0] = r.text("_uuid")
	p.name, errs[1] = r.text("name")
	p.tag, errs[2] = r.numbers("tag")
	p.trunks, errs[3] = r.numbers("trunks")
	p.mode, errs[4] = r.text("vlan_mode")
	p.ids, errs[5] = r.pairs("external_ids")
	slices.Sort(p.trunks)
	return p, errors.Join(errs...)
}

// ways is that of a Conn.
func (s *session) ways(name string, vlan int) (map[string]int, error) {
	out, err := s.transact(answerTime,
		rowsOf("Bridge", []any{is("name", name)}, "ports"),
		rowsOf("Port", nil, "_uuid", "name", "tag", "trunks", "vlan_mode", "external_ids", "interfaces"),
		rowsOf("Interface", nil, "_uuid", "name"))
	if err != nil || len(out[0].Rows) == 0 {
		return nil, err
	}
	ports, err := out[0].Rows[0].texts("ports")
	if err != nil {
		return nil, err
	}
	devices := map[string]string{}
	for _, r := range out[2].Rows {
		id, e1 := r.text("_uuid")
		if devices[id], err = r.text("name"); e1 != nil || err != nil {
			return nil, errors.Join(e1, err)
		}
	}
	ways := map[string]int{}
	for _, r := range out[1].Rows {
		p, err := parsePort(r)
		if err != nil {
			return nil, err
		}
		tag, carried := p.carries(vlan)
		if p.ours() || p.name == name || !carried || !slices.Contains(ports, p.uuid) {
			continue
		}
		members, err := r.texts("interfaces") // several of a bond
		if err != nil {
			return nil, err
		}
		for _, id := range members {
			ways[devices[id]] = tag
		}
	}
	return ways, nil
}

// carries reports whether a port has part in a VLAN, and the tag that frames of it have
// there, 0 for none (ovs-vswitchd.conf.db(5), VLAN Configuration).
func (p port) carries(vlan int) (tag int, yes bool) {
	native := len(p.tag) > 0 && p.tag[0] == vlan
	switch p.mode {
	case "dot1q-tunnel":
		return 0, false
	case "native-untagged":
		if native || len(p.tag) == 0 && vlan == 0 {
			return 0, true
		}
	case "native-tagged":
		if native {
			return vlan, true
		}
	case "trunk":
	default:
		if p.mode == "access" || len(p.tag) > 0 {
			return 0, native || len(p.tag) == 0 && vlan == 0
		}
	}
	return vlan, len(p.trunks) == 0 || slices.Contains(p.trunks, vlan)
}

// trouble says why an interface carries nothing, or "".
func trouble(r row) (string, error) {
	text, err := r.text("error")
	if err != nil || text != "" {
		return text, err
	}
	n, err := r.numbers("ofport")
	switch {
	case err != nil:
		return "", err
	case len(n) == 0:
		return "ovs-vswitchd has not taken it up", nil
	case n[0] < 0:
		return "ovs-vswitchd cannot take it up", nil
	}
	return "", nil
}

// Observe returns all bridges, and the ports that are ours. Where no server
// answers there is nothing; what is then wanted finds out why.
func (c *Conn) Observe() ([]kstate.Object, error) {
	var t table
	why := ""
	err := c.with(func(s *session) (err error) {
		if t, err = s.look(true); err != nil || !t.ours() {
			return err
		}
		why, err = c.dead(s)
		return err
	})
	if err != nil {
		return nil, nil
	}
	objs := make([]kstate.Object, 0, len(t.bridges)+len(t.ports))
	for _, b := range t.bridges {
		if b.ours && why != "" {
			b.broken = why
		}
		objs = append(objs, b.object())
	}
	for _, p := range t.ports {
		if p.stale = c.stale(p); why != "" {
			p.broken, p.stale = why, false
		}
		objs = append(objs, p.object())
	}
	c.mu.Lock()
	c.ours = t.ours()
	c.mu.Unlock()
	return objs, nil
}

// ours reports whether something is. Of ports nothing else is looked at.
func (t table) ours() bool {
	for _, b := range t.bridges {
		if b.ours {
			return true
		}
	}
	return len(t.ports) > 0
}

// dead says that ovs-vswitchd does not live, or "". It is missed from then on.
func (c *Conn) dead(s *session) (string, error) {
	alive, err := c.switching(s)
	switch {
	case err != nil:
		return "", err
	case !alive:
		c.await()
		return noSwitch, nil
	}
	c.mourn(s)
	return "", nil
}

// stale reports whether a port was made for another device than the one there is.
func (c *Conn) stale(p port) bool {
	made, err := strconv.Atoi(p.ids[indexKey])
	index, missing := c.index(p.name)
	return err != nil || missing != nil || made != index
}
