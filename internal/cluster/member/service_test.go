package member

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// stageServed is stageShared with a service web on aa, which has 10.1.0.20, and what is
// left of one that is no more at 10.1.0.21.
func stageServed() scene {
	s := stageShared()
	for key, value := range map[string]string{
		"services/aa/web":        serviceText("web", "10.1.0.20"),
		"addresses/aa/10.1.0.20": `{"service":"web"}`,
		"addresses/aa/10.1.0.21": `{"service":"old"}`,
	} {
		s.keys[ov+key] = &mvccpb.KeyValue{Key: []byte(ov + key), Value: []byte(value), ModRevision: 40}
	}
	return s
}

func serviceText(name string, vips ...string) string {
	list := ""
	if len(vips) > 0 {
		list = `,"vips":["` + strings.Join(vips, `","`) + `"]`
	}
	return fmt.Sprintf(`{"id":"s1","name":%q,"ports":[{"port":80,"protocol":"tcp"}],"dnsrr":%t%s}`, name, list == "", list)
}

// TestServiceRights has b try what it may and what it may not do of services.
func TestServiceRights(t *testing.T) {
	type put = [3]any
	idB := nodeID("b")
	rest := `{"host":"` + idB + `"}`
	for _, c := range []struct {
		name string
		keys []put
		want string // in the refusal; "": none
	}{
		{"a new service", []put{{"services/aa/api", 0, serviceText("API", "10.1.0.5")}, {"addresses/aa/10.1.0.5", 0, `{"service":"api"}`}}, ""},
		{"without addresses", []put{{"services/aa/api", 0, serviceText("api")}}, ""},
		{"with what rests", []put{{"services/aa/api", 0, serviceText("api", "10.1.0.7")}, {"addresses/aa/10.1.0.7", 35, `{"service":"api"}`}}, ""},
		{"with what is left of another", []put{{"services/aa/api", 0, serviceText("api", "10.1.0.21")}, {"addresses/aa/10.1.0.21", 40, `{"service":"api"}`}}, ""},
		{"changed", []put{{"services/aa/web", 40, strings.Replace(serviceText("web", "10.1.0.20"), `"id"`, `"balance":"hash","id"`, 1)}}, ""},
		{"removed", []put{{"services/aa/web", 40, nil}, {"lease addresses/aa/10.1.0.20", 40, rest}}, ""},
		{"with its network", []put{{"networks/dd", 0, netText("dd", "new", 7, "10.4.0.0/24")}, {"names/new", 0, "dd"}, {"vnis/7", 0, "dd"}, {"order", 21, "dd"},
			{"services/dd/web", 0, serviceText("web", "10.4.0.5")}, {"addresses/dd/10.4.0.5", 0, `{"service":"web"}`}}, ""},
		{"what is left goes", []put{{"addresses/aa/10.1.0.21", 40, nil}}, ""},
		{"what is left is an endpoint's", []put{{"addresses/aa/10.1.0.21", 40, claimText("b", "f")}, {"endpoints/aa/" + idB + "/f", 0, endText("f", macOf("10.1.0.21"), "10.1.0.21")}}, ""},

		{"nobody's address", []put{{"services/aa/api", 0, serviceText("api", "10.1.0.5")}}, "address 10.1.0.5 is not claimed by it"},
		{"a's address", []put{{"services/aa/api", 0, serviceText("api", "10.1.0.2")}, {"addresses/aa/10.1.0.2", 30, `{"service":"api"}`}}, "it is claimed by host"},
		{"another's address", []put{{"services/aa/api", 0, serviceText("api", "10.1.0.20")}, {"addresses/aa/10.1.0.20", 40, `{"service":"api"}`}}, "it is that of service web"},
		{"an endpoint at a service's", []put{{"addresses/aa/10.1.0.20", 40, claimText("b", "f")}, {"endpoints/aa/" + idB + "/f", 0, endText("f", macOf("10.1.0.20"), "10.1.0.20")}}, "it is that of service web"},
		{"its address goes", []put{{"addresses/aa/10.1.0.20", 40, nil}}, "it is that of service web"},
		{"its address rests", []put{{"lease addresses/aa/10.1.0.20", 40, rest}}, "it is that of service web"},
		{"a claim without one", []put{{"addresses/aa/10.1.0.5", 0, `{"service":"api"}`}}, "service api does not have it"},
		{"a claim that ends", []put{{"services/aa/api", 0, serviceText("api", "10.1.0.5")}, {"lease addresses/aa/10.1.0.5", 0, `{"service":"api"}`}}, "does not end by itself"},
		{"the gateway", []put{{"services/aa/api", 0, serviceText("api", "10.1.0.1")}, {"addresses/aa/10.1.0.1", 0, `{"service":"api"}`}}, "no container has it"},
		{"outside", []put{{"services/aa/api", 0, serviceText("api", "10.9.0.5")}, {"addresses/aa/10.9.0.5", 0, `{"service":"api"}`}}, "no container has it"},
		{"on no network", []put{{"services/zz/api", 0, serviceText("api")}}, "no such network"},
		{"under another name", []put{{"services/aa/api", 0, serviceText("web")}}, `its key says "api"`},
		{"one that ends", []put{{"lease services/aa/api", 0, serviceText("api")}}, "does not end by itself"},
		{"of no meaning", []put{{"services/aa/api", 0, "[]"}}, "no JSON object"},
		{"host and service", []put{{"addresses/aa/10.1.0.20", 40, `{"service":"web","host":"` + idB + `"}`}}, "and nothing else"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := stageServed()
			bid, err := domain(theFabric).bid(bidOf(ofB, c.keys...))
			if err == nil {
				err = bid.judge(stageHost("b"), asked(bid, before, !bid.renews(before)))
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestServedNetwork: a network stays under its services.
func TestServedNetwork(t *testing.T) {
	type put = [3]any
	for name, keys := range map[string][]put{
		"removed": {{"networks/aa", 20, nil}, {"names/app", 20, nil}, {"vnis/4096", 20, nil}},
		"moved":   {{"networks/aa", 20, netText("aa", "app", 4096, "10.5.0.0/24")}},
	} {
		before := stageServed()
		for key := range before.keys { // nobody else is on it
			if strings.HasPrefix(key, ov+"endpoints/") {
				delete(before.keys, key)
			}
		}
		bid, err := domain(theFabric).bid(bidOf(ofB, keys...))
		if err == nil {
			err = bid.judge(stageHost("b"), asked(bid, before, true))
		}
		if err == nil || !strings.Contains(err.Error(), "service web") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
