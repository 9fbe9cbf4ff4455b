package ovsdb

import (
	"encoding/json"
	"net"
	"testing"
	"time"
)

// FuzzTable reads whatever a server may send for the three tables. What can be
// read prints, and of a name there is one.
func FuzzTable(f *testing.F) {
	f.Add(`[{"rows":[{"_uuid":["uuid","b"],"name":"br","datapath_type":"","ports":["set",[["uuid","p"]]],"external_ids":["map",[["owner","sealane"]]],"other_config":["map",[["hwaddr","50:00:00:00:00:07"]]]}]},
		{"rows":[{"name":"slv1","error":["set",[]],"ofport":7}]},
		{"rows":[{"_uuid":["uuid","p"],"name":"slv1","tag":100,"trunks":["set",[2,1]],"vlan_mode":["set",[]],"external_ids":["map",[["owner","sealane"],["sealane.ifindex","9"]]]}]}]`)
	f.Add(`[{"rows":[]},{"rows":[{"name":"x","error":"no","ofport":-1}]},{"rows":[{}]}]`)
	f.Add(`[null,{"error":"timed out","details":"x"},{"count":1},{"uuid":["uuid","x"]}]`)
	f.Add(`[{"rows":[{"name":["set",["a","b"]]}]},{"rows":[{"name":7}]},{"rows":null}]`)
	f.Fuzz(func(t *testing.T, text string) {
		out, err := parseResults(json.RawMessage(text))
		if err != nil || len(out) < 3 {
			return
		}
		table, err := parseTable(out[0].Rows, out[1].Rows, out[2].Rows)
		if err != nil {
			return
		}
		for name, b := range table.bridges {
			if o := b.object(); o.Name != name || o.String() == "" {
				t.Errorf("bridge %q is %s", name, o)
			}
		}
		for name, p := range table.ports {
			if o := p.object(); o.Device != name || o.String() == "" {
				t.Errorf("port %q is %s", name, o)
			}
		}
	})
}

// FuzzSession reads whatever a server may say, and ends with it.
func FuzzSession(f *testing.F) {
	f.Add(`{"method":"echo","params":["x"],"id":"echo"}{"id":1,"result":[],"error":null}{"method":"update2","params":[null,{}],"id":null}`)
	f.Add(`{"id":1,"result":null,"error":{"error":"unknown method"}}`)
	f.Add(`[]{}7"x"{"id":{}}{"method":7}`)
	f.Fuzz(func(t *testing.T, text string) {
		near, far := net.Pipe()
		s := newSession(near)
		go s.read()
		c := &call{method: "transact", params: []any{database}}
		asked := make(chan error, 1)
		go func() { asked <- s.ask(c) }()
		go func() { // a server that reads what it likes
			buf := make([]byte, 1<<12)
			for {
				if _, err := far.Read(buf); err != nil {
					return
				}
			}
		}()
		<-asked
		_ = far.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_, _ = far.Write([]byte(text))
		_ = far.Close()
		_, _ = s.await(c, 5*time.Second)
		<-s.ended
	})
}
