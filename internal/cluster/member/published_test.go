package member

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// publishText is a service without addresses that publishes ports.
func publishText(name string, ports ...int) string {
	var list []string
	for _, p := range ports {
		list = append(list, fmt.Sprintf(`{"port":%d,"target":80,"protocol":"tcp","local":true}`, p))
	}
	return strings.Replace(serviceText(name), `"id"`, `"publish":[`+strings.Join(list, ",")+`],"id"`, 1)
}

// stagePublished is stageShared with a service shop on aa at port 8080, a claim of port 8081
// that it has left behind, one of port 8082 of no service, nonsense at 8083, and numbers: 1
// of a, 2 of b, 3 of z, which is no more.
func stagePublished() scene {
	s := stageShared()
	for key, value := range map[string]string{
		"services/aa/shop":    publishText("shop", 8080),
		"ports/tcp/8080":      `{"network":"aa","service":"shop"}`,
		"ports/tcp/8081":      `{"network":"aa","service":"shop"}`,
		"ports/tcp/8082":      `{"network":"aa","service":"gone"}`,
		"ports/tcp/8083":      `nonsense`,
		"numbers/1":           nodeID("a"),
		"numbers/2":           nodeID("b"),
		"numbers/3":           nodeID("z"),
		"numbers/4":           "nobody",
		"held/" + nodeID("b"): `{"ports":{}}`,
	} {
		s.keys[ov+key] = &mvccpb.KeyValue{Key: []byte(ov + key), Value: []byte(value), ModRevision: 40}
	}
	return s
}

// TestPublishedRights has b try what it may and what it may not do of published ports,
// numbers of hosts, and ports that containers have.
func TestPublishedRights(t *testing.T) {
	type put = [3]any
	idA, idB := nodeID("a"), nodeID("b")
	web := `{"network":"aa","service":"web"}`
	numbered := func(n int) string {
		return strings.Replace(hostText("b", "192.0.2.2"), "}", fmt.Sprintf(`,"number":%d}`, n), 1)
	}
	for _, c := range []struct {
		name string
		keys []put
		pins map[string]int64
		want string // in the refusal; "": none
	}{
		{"a new port", []put{{"services/aa/web", 0, publishText("web", 9000)}, {"ports/tcp/9000", 0, web}}, nil, ""},
		{"two", []put{{"services/aa/web", 0, publishText("web", 9000, 9001)}, {"ports/tcp/9000", 0, web}, {"ports/tcp/9001", 0, web}}, nil, ""},
		{"what is left of a service", []put{{"services/aa/web", 0, publishText("web", 8081)}, {"ports/tcp/8081", 40, web}}, map[string]int64{"services/aa/shop": 40}, ""},
		{"what is left of none", []put{{"services/aa/web", 0, publishText("web", 8082)}, {"ports/tcp/8082", 40, web}}, map[string]int64{"services/aa/gone": 0}, ""},
		{"over nonsense", []put{{"services/aa/web", 0, publishText("web", 8083)}, {"ports/tcp/8083", 40, web}}, nil, ""},
		{"given back", []put{{"services/aa/shop", 40, publishText("shop")}, {"ports/tcp/8080", 40, nil}}, nil, ""},
		{"with its service", []put{{"services/aa/shop", 40, nil}, {"ports/tcp/8080", 40, nil}, {"ports/tcp/8081", 40, nil}}, nil, ""},
		{"its service goes", []put{{"services/aa/shop", 40, nil}}, nil, ""},
		{"it goes over", []put{{"services/aa/shop", 40, publishText("shop")}, {"services/aa/web", 0, publishText("web", 8080)}, {"ports/tcp/8080", 40, web}}, nil, ""},

		{"another's port", []put{{"services/aa/web", 0, publishText("web", 8080)}, {"ports/tcp/8080", 40, web}}, map[string]int64{"services/aa/shop": 40}, "it is that of service shop"},
		{"unasked", []put{{"services/aa/web", 0, publishText("web", 8081)}, {"ports/tcp/8081", 40, web}}, nil, "is no condition"},
		{"without a claim", []put{{"services/aa/web", 0, publishText("web", 9000)}}, nil, "ports/tcp/9000 is not claimed by it"},
		{"by another's claim", []put{{"services/aa/web", 0, publishText("web", 8080)}}, nil, "ports/tcp/8080 is not claimed by it"},
		{"for a service that has it not", []put{{"services/aa/web", 0, publishText("web")}, {"ports/tcp/9000", 0, web}}, nil, "service web does not publish it"},
		{"for no service", []put{{"ports/tcp/9000", 0, web}}, nil, "service web does not publish it"},
		{"it goes from under", []put{{"ports/tcp/8080", 40, nil}}, map[string]int64{"services/aa/shop": 40}, "it is that of service shop"},
		{"it goes from under unasked", []put{{"ports/tcp/8080", 40, nil}}, nil, "is no condition"},
		{"one that ends", []put{{"services/aa/web", 0, publishText("web", 9000)}, {"lease ports/tcp/9000", 0, web}}, nil, "does not end by itself"},
		{"nonsense", []put{{"ports/tcp/9000", 0, `{"network":"a/a","service":"web"}`}}, nil, "want a network's ID"},
		{"its network becomes internal", []put{{"networks/aa", 20, strings.Replace(netText("aa", "app", 4096, "10.1.0.0/24"), "{", `{"internal":true,`, 1)}}, nil, "does not become internal"},
		{"of an internal network", []put{{"networks/bb", 21, strings.Replace(netText("bb", "more", 4097, "10.2.0.0/24"), "{", `{"internal":true,`, 1)},
			{"services/bb/web", 0, publishText("web", 9000)}, {"ports/tcp/9000", 0, `{"network":"bb","service":"web"}`}}, nil, "nothing outside reaches"},

		{"its number again", []put{{"numbers/2", 40, idB}, {"hosts/" + idB, 31, numbered(2)}}, nil, ""},
		{"it says it", []put{{"hosts/" + idB, 31, numbered(2)}}, nil, ""},
		{"another", []put{{"numbers/2", 40, nil}, {"numbers/9", 0, idB}, {"hosts/" + idB, 31, numbered(9)}}, nil, ""},
		{"one of z", []put{{"numbers/2", 40, nil}, {"numbers/3", 40, idB}}, nil, ""},
		{"one of nobody", []put{{"numbers/2", 40, nil}, {"numbers/4", 40, idB}}, nil, ""},
		{"that of z goes", []put{{"numbers/3", 40, nil}}, nil, ""},
		{"a's number", []put{{"numbers/2", 40, nil}, {"numbers/1", 40, idB}}, nil, "it is that of host " + idA},
		{"a's goes", []put{{"numbers/1", 40, nil}}, nil, "it is that of host " + idA},
		{"one for a", []put{{"numbers/9", 0, idA}}, nil, "names another host"},
		{"a second", []put{{"numbers/9", 0, idB}}, nil, "has numbers/2 already"},
		{"two at once", []put{{"numbers/2", 40, nil}, {"numbers/8", 0, idB}, {"numbers/9", 0, idB}}, nil, "one is enough"},
		{"it says a's", []put{{"hosts/" + idB, 31, numbered(1)}}, nil, "numbers/1 is not its own"},
		{"it says nobody's", []put{{"hosts/" + idB, 31, numbered(9)}}, nil, "numbers/9 is not its own"},
		{"it says what goes", []put{{"hosts/" + idB, 31, numbered(2)}, {"numbers/2", 40, nil}}, nil, "is not its own"},
		{"too high", []put{{"hosts/" + idB, 31, numbered(5000)}}, nil, "number 5000"},
		{"a number that ends", []put{{"lease numbers/9", 0, idB}}, nil, "does not end by itself"},

		{"what it holds", []put{{"held/" + idB, 40, `{"ports":{"8080/tcp":"db"}}`}}, nil, ""},
		{"it holds nothing", []put{{"held/" + idB, 40, nil}}, nil, ""},
		{"what a holds", []put{{"held/" + idA, 0, `{"ports":{"8080/tcp":"db"}}`}}, nil, "it is that of " + idA},
		{"nonsense held", []put{{"held/" + idB, 40, `{"ports":{"x":""}}`}}, nil, "want [ADDR:]PORT"},
		{"held for a while", []put{{"lease held/" + idB, 40, `{}`}}, nil, "does not end by itself"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			before := stagePublished()
			txn := bidOf(ofB, c.keys...)
			for key, rev := range c.pins {
				txn.Compare = append(txn.Compare, txnOf(nil, ifAt(ov+key, rev)).Compare...)
			}
			bid, err := domain(theFabric).bid(txn)
			if err == nil {
				err = bid.judge(stageHost("b"), asked(bid, before, !bid.renews(before)))
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
