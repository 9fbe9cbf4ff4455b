package engine

import (
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/cluster"
)

// TestUnread has records in the cluster that this version refuses: what the host had before
// of the network and the service goes on, also by the next daemon, and they can be removed.
func TestUnread(t *testing.T) {
	m := cluster.NewMemory(nil)
	a := member(t, m, "a", "198.51.100.9")
	n, err := a.overlay("app", nil, "10.1.0.0/24")
	a.ok(err)
	_, err = a.e.CreateService(a.ctx, shop("web", "app", "80", "8080:80"))
	a.ok(err)
	a.sandbox("w1", SandboxSpec{Networks: []EndpointSpec{{Network: "app"}}})
	lone, err := a.overlay("lone", nil, "10.2.0.0/24")
	a.ok(err)
	good := map[string][]byte{}
	spoil := func(key, from, to string) {
		snap, err := m.List(a.ctx, "/net/sealane/overlay/"+key)
		a.ok(err)
		text := string(snap.Entries[0].Value)
		if !strings.Contains(text, from) {
			t.Fatalf("%s: %s", key, text)
		}
		good[snap.Entries[0].Key] = []byte(text)
		_, _, err = m.Commit(a.ctx, cluster.Txn{Put: []cluster.Put{{Key: snap.Entries[0].Key, Value: []byte(strings.ReplaceAll(text, from, to))}}})
		a.ok(err)
	}
	spoil("services/"+string(n.ID)+"/web", `"port":8080`, `"port":0`)
	spoil("networks/"+string(lone.ID), `"10.2.0.0/24"`, `"10.2.0.0/33"`)
	for range 2 {
		eventually(t, "the records are told of", func() bool {
			app, err1 := a.e.Network("app")
			other, err2 := a.e.Network("lone")
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			return strings.Contains(a.e.NetworkStatus(app).Message, "this host goes on with what it was before") && strings.Contains(a.e.NetworkStatus(other).Message, "this host goes on with")
		})
		s, err := a.e.Service("app/web")
		a.ok(err)
		if len(s.Publish) != 1 || s.Publish[0].Port != 8080 || len(s.VIPs) != 1 {
			t.Errorf("%+v", s.Service)
		}
		a.again()
	}
	b := member(t, m, "b", "198.51.100.8")
	eventually(t, "a new host's doctor tells of them", func() bool {
		var said []string
		for _, c := range b.e.Doctor(b.ctx) {
			said = append(said, c.What+": "+c.Why+": "+c.Right)
		}
		text := strings.Join(said, "\n")
		return strings.Contains(text, "network app: degraded: services/"+string(n.ID)+"/web: ") && strings.Contains(text, "cluster: networks/"+string(lone.ID)+": ") && strings.Contains(text, ": the same version on all hosts; or")
	})
	for key, text := range good {
		_, _, err = m.Commit(a.ctx, cluster.Txn{Put: []cluster.Put{{Key: key, Value: text}}})
		a.ok(err)
	}
	eventually(t, "all is well again", func() bool {
		app, err := a.e.Network("app")
		a.ok(err)
		return a.e.NetworkStatus(app).State == StateReady
	})
	spoil("services/"+string(n.ID)+"/web", `"port":8080`, `"port":0`)
	a.again()
	eventually(t, "the record is told of", func() bool {
		s, err := a.e.Service("web")
		return err == nil && a.e.ServiceStatus(s).State == StateDegraded
	})
	a.ok(a.e.RemoveService(a.ctx, "web"))
	a.ok(a.e.RemoveNetwork(a.ctx, "lone"))
	a.knows("lone", false)
	a.checks()
}
