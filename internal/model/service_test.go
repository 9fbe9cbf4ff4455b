package model

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestParseMemberships(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Membership
		err  string
	}{
		{"web", []Membership{{Service: "web"}}, ""},
		{"web:8080", []Membership{{Service: "web", Port: 8080}}, ""},
		{"web*16", []Membership{{Service: "web", Weight: 16}}, ""},
		{"web:8080*2,api", []Membership{{Service: "web", Port: 8080, Weight: 2}, {Service: "api"}}, ""},
		{"", nil, "name"},
		{"web,", nil, "name"},
		{"a b", nil, "name"},
		{"web:", nil, "PORT from 1"},
		{"web:0", nil, "PORT from 1"},
		{"web:65536", nil, "PORT from 1"},
		{"web:80/tcp", nil, "PORT from 1"},
		{"web*0", nil, "WEIGHT from 1"},
		{"web*17", nil, "WEIGHT from 1"},
		{"web*", nil, "WEIGHT from 1"},
		{"web*2:80", nil, "WEIGHT from 1"},
		{"web,WEB:80", nil, "service WEB: is there twice"},
	} {
		got, err := ParseMemberships(c.text)
		if c.err == "" {
			var texts []string
			for _, m := range got {
				texts = append(texts, m.String())
			}
			if err != nil || !reflect.DeepEqual(got, c.want) || strings.Join(texts, ",") != c.text {
				t.Errorf("%s: %+v, %v", c.text, got, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %s", c.text, err, c.err)
		}
	}
}

func TestParseServicePort(t *testing.T) {
	for text, want := range map[string]string{"80": "80/tcp", "53/UDP": "53/udp", "1/sctp": "1/sctp", "65535/tcp": "65535/tcp", "0": "", "65536": "", "80/": "", "80/icmp": "", "": "", "-1": "", "80-81": "", "+80": ""} {
		p, err := ParseServicePort(text)
		if (err == nil) != (want != "") || err == nil && p.String() != want {
			t.Errorf("%q: %s, %v", text, p, err)
		}
	}
}

func TestParseServicePorts(t *testing.T) {
	for text, want := range map[string]string{"80": "[80/tcp]", "80-82/UDP": "[80/udp 81/udp 82/udp]", "65535-65535": "[65535/tcp]", "1-256": "[1/tcp 2/tcp", "1-257": "257 ports: a service has up to 256",
		"80-": "want PORT", "82-80": "want PORT", "0-1": "want PORT", "1-65536": "want PORT", "1-2/": "want PORT", "1-2/icmp": "want PORT", "": "want PORT"} {
		if got := fmt.Sprint(ParseServicePorts(text)); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestServiceValidate(t *testing.T) {
	at := ServicePort{80, "tcp"}
	for _, c := range []struct {
		s    Service
		want string
	}{
		{Service{Name: "web", Ports: []ServicePort{at, {80, "udp"}}}, ""},
		{Service{Name: "", Ports: []ServicePort{at}}, `service : create: name ""`},
		{Service{Name: "web"}, "service web: create: port: missing"},
		{Service{Name: "Tasks.web", Ports: []ServicePort{at}}, `name "Tasks.web": means the backends of service web`},
		{Service{Name: "tasks", Ports: []ServicePort{at}}, ""},
		{Service{Name: "a.tasks.b", Ports: []ServicePort{at}}, ""},
		{Service{Name: strings.Repeat("a", 63) + ".b", Ports: []ServicePort{at}}, ""},
		{Service{Name: strings.Repeat("a", 64), Ports: []ServicePort{at}}, "want 1 to 63 characters between dots"},
		{Service{Name: "localhosts", Ports: []ServicePort{at}}, ""},
		{Service{Name: "80a", Ports: []ServicePort{at}}, ""},
		{Service{Name: "1.2.3.4.5", Ports: []ServicePort{at}}, ""},
		{Service{Name: "a..b", Ports: []ServicePort{at}}, "want 1 to 63 characters between dots"},
		{Service{Name: "web", Ports: []ServicePort{at, at}}, "port 80/tcp: is there twice"},
	} {
		for _, check := range []func() error{c.s.Validate, c.s.CheckNew} {
			if err := check(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v, want %s", c.s, err, c.want)
			}
		}
	}
	for name, want := range map[string]string{ // which one may have that was made before
		"localhost":     "means the one who asks",
		"web.LocalHost": "means the one who asks",
		"192.0.2.1":     "is an address",
		"0x7f.1":        "is an address",
		"80":            "is an address",
	} {
		s := Service{Name: name, Ports: []ServicePort{at}}
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
		if err := s.CheckNew(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("service %s: create: name %q: %s", name, name, want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := Overlay{Services: []*Service{{Name: "Web"}}}
	if o.Service("wEB") != o.Services[0] || o.Service("we") != nil {
		t.Error("case is of no consequence")
	}
	b := Member{Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	if b.Addr(false) != b.Addrs[0] || b.Addr(true).IsValid() {
		t.Error("an address of a family")
	}
}
