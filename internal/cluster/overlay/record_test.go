package overlay

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	for _, k := range []Key{
		{Kind: KindNetwork, Network: "aa"}, {Kind: KindName, Name: "a.b_c-d"}, {Kind: KindVNI, VNI: 1}, {Kind: KindVNI, VNI: MaxVNI}, {Kind: KindOrder},
		{Kind: KindHost, Host: "n-1"}, {Kind: KindAlive, Host: "n-1"}, {Kind: KindAddress, Network: "aa", Addr: netip.MustParseAddr("fd01::2")},
		{Kind: KindAddress, Network: "aa", Addr: netip.MustParseAddr("10.0.0.2")}, {Kind: KindEndpoint, Network: "aa", Host: "n-1", Endpoint: "e1"},
		{Kind: KindNumber, Number: 1}, {Kind: KindNumber, Number: 4095}, {Kind: KindPort, Port: 65535, Proto: "sctp"}, {Kind: KindHeld, Host: "n-1"},
	} {
		if got, ok := ParseKey(k.String()); !ok || got != k {
			t.Errorf("%s: %+v", k, got)
		}
	}
	for _, text := range []string{
		"", "networks", "networks/", "networks/a/b", "networks/a_b", "names/", "names/../x", "vnis/0", "vnis/16777216", "vnis/01", "vnis/+1", "order/", "orders", "hosts/a b",
		"addresses/aa/10.0.0.02", "addresses/aa/::ffff:10.0.0.2", "addresses/aa/fe80::1%eth0", "addresses/aa/FD01::2", "addresses/aa/0.0.0.0", "addresses//10.0.0.2", "endpoints/aa/n-1",
		"endpoints/aa/n-1/e1/x", "endpoints/aa//e1", "hosts/" + strings.Repeat("a", 65), "numbers/0", "numbers/01", "numbers/4096", "numbers/x", "ports/tcp/0", "ports/tcp/65536", "ports/tcp/080", "ports/TCP/80",
		"ports/icmp/80", "ports/80", "ports/tcp/80/x", "held/", "held/a/b",
	} {
		if k, ok := ParseKey(text); ok {
			t.Errorf("%q is %+v", text, k)
		}
	}
}

func TestEndpointsThatAreNone(t *testing.T) {
	k := Key{Kind: KindEndpoint, Network: "aa", Host: "n-1", Endpoint: "e1"}
	for text, want := range map[string]string{
		`[]`:                                    "no JSON object",
		`{"id":"e1"`:                            "unexpected end",
		`{"id":"e2","mac":"02:00:00:00:00:01"}`: `its key says "e1"`,
		`{"id":"e1","mac":"02:00:00:00:00:0A"}`: "want it as",
		`{"id":"e1","mac":"01:00:5e:00:00:01"}`: "",
		`{"id":"e1","mac":"02:00:00:00:00:01","addrs":["127.0.0.1"]}`:                       "is no container's",
		`{"id":"e1","mac":"02:00:00:00:00:01","addrs":["10.0.0.1","10.0.0.1"]}`:             "twice",
		`{"id":"e1","mac":"02:00:00:00:00:01","addrs":[5]}`:                                 "",
		`{"id":"e1","mac":"02:00:00:00:00:01","names":["a\nb"]}`:                            "printable",
		`{"id":"e1","mac":"02:00:00:00:00:01","services":[{"name":""}]}`:                    "service",
		`{"id":"e1","mac":"02:00:00:00:00:01","services":[{"name":"web","health":"well"}]}`: "want starting, healthy",
		`{"id":"e1","mac":"02:00:00:00:00:01","sandbox":{"id":"../x"}}`:                     "sandbox",
	} {
		if _, err := ParseEndpoint(k, []byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", text, err)
		}
	}
	good := `{"id":"e1","mac":"02:00:00:00:00:01","addrs":["10.0.0.1","fd01::1"],"later":{"x":[]}}`
	if e, err := ParseEndpoint(k, []byte(good)); err != nil || e.Host != "n-1" || len(e.Addrs) != 2 {
		t.Errorf("%+v, %v", e, err)
	}
}

// A host's address inside the tunnel is made of its ID, and so is nobody else's.
func TestHostKeys(t *testing.T) {
	const key = `"key":"qh49WnJT7RvtAdX0f6U2EUWRXr0rBJu6vIAc3Hf52hg="`
	inner := `"inner":"` + InnerOf("n-1").String() + `"`
	for text, want := range map[string]string{
		`{"id":"n-1","name":"a"}`:                                                        "",
		`{"id":"n-1","name":"a",` + key + `,` + inner + `}`:                              "",
		`{"id":"n-2","name":"a",` + key + `,` + inner + `}`:                              "that of host n-2 is",
		`{"id":"n-1","name":"a",` + key + `}`:                                            "that of host n-1 is",
		`{"id":"n-1","name":"a",` + inner + `}`:                                          "32 bytes",
		`{"id":"n-1","name":"a","key":"AAAA",` + inner + `}`:                             "32 bytes",
		`{"id":"n-1","name":"a","key":"` + strings.Repeat("A", 43) + `=",` + inner + `}`: "not all zero",
	} {
		h, err := ParseHost([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", text, h, err)
		}
	}
	if a := InnerOf("n-1"); a != InnerOf("n-1") || a == InnerOf("n-2") || !innerNet.Contains(a) || a != netip.MustParseAddr("fd5e:a1ae:5ea1:1446:cca3:5f72:2c3b:3ed1") {
		t.Errorf("%s", a)
	}
}

// FuzzRecords reads anything: nothing panics, and what was read is the same when it is
// written and read again.
func FuzzRecords(f *testing.F) {
	n := net("aa", "app", "10.1.0.0/24", "fd01::/64")
	n.VNI, n.leaving = 7, true
	e := end("aa", "e1", "10.1.0.2")
	f.Add("held/n-1", []byte(`{"ports":{"8080/tcp":"web","[::1]:81-90/udp":""}}`))
	f.Add("ports/tcp/8080", []byte(`{"network":"aa","service":"web"}`))
	for _, v := range []any{networkText{n, true}, &e, Claim{Host: "n-1", Endpoint: "e1"}, Host{ID: "n-1", Name: "host1"}} {
		text, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("endpoints/aa/n-1/e1", text)
	}
	f.Add("addresses/aa/10.1.0.2", []byte(`{"ID":"aa","id":"bb","subnets":[{"prefix":"10.0.0.0/8","gateway":"","lent":["10.0.0.9"]}],"vni":1,"name":"x","X":null,"x":1}`))
	f.Fuzz(func(t *testing.T, key string, text []byte) {
		if k, ok := ParseKey(key); ok && k.String() != key {
			t.Errorf("%q became %q", key, k)
		}
		if n, err := ParseNetwork(text); err == nil {
			again(t, n, func() ([]byte, error) { return n.Marshal() }, ParseNetwork)
		}
		if h, err := ParseHost(text); err == nil {
			again(t, h, h.Marshal, ParseHost)
		}
		if c, err := ParseClaim(text); err == nil {
			again(t, c, c.Marshal, ParseClaim)
		}
		if c, err := ParsePortClaim(text); err == nil {
			again(t, c, c.Marshal, ParsePortClaim)
		}
		if h, err := ParseHeld(text); err == nil && len(h) > 0 && len(text) < maxHeld/2 {
			again(t, h, func() ([]byte, error) { return marshalHeld(h), nil }, ParseHeld)
		}
		k := Key{Kind: KindEndpoint, Network: "aa", Host: "n-1", Endpoint: "e1"}
		if e, err := ParseEndpoint(k, text); err == nil {
			again(t, e, e.Marshal, func(b []byte) (*Endpoint, error) { return ParseEndpoint(k, b) })
		}
	})
}

func again[T any](t *testing.T, v T, write func() ([]byte, error), read func([]byte) (T, error)) {
	t.Helper()
	text, err := write()
	if err != nil {
		t.Errorf("%+v: %v", v, err)
		return
	}
	back, err := read(text)
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	a, _ := json.Marshal(v)
	b, _ := json.Marshal(back)
	if string(a) != string(b) && !reflect.DeepEqual(v, back) {
		t.Errorf("%s became %s", a, b)
	}
}
