package model

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestParsePublish(t *testing.T) {
	at := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	for text, want := range map[string]Publish{
		"8080:80":                     {Port: 8080, Target: 80, Proto: "tcp"},
		"53/UDP":                      {Port: 53, Target: 53, Proto: "udp"},
		"192.0.2.1:8080:80/tcp":       {Port: 8080, Target: 80, Proto: "tcp", Addrs: at},
		"192.0.2.1:80":                {Port: 80, Target: 80, Proto: "tcp", Addrs: at},
		"[fd01::1]:8080:80,mode=host": {Port: 8080, Target: 80, Proto: "tcp", Addrs: []netip.Addr{netip.MustParseAddr("fd01::1")}, Local: true},
		"0.0.0.0:8080:80/sctp":        {Port: 8080, Target: 80, Proto: "sctp"},
		"[::]:8080:80,mode=ingress":   {Port: 8080, Target: 80, Proto: "tcp"},
		"published=8080,target=80":    {Port: 8080, Target: 80, Proto: "tcp"},
		"mode=host,target=53,published=5353,protocol=udp": {Port: 5353, Target: 53, Proto: "udp", Local: true},
	} {
		p, err := ParsePublish(text)
		if err != nil || !reflect.DeepEqual(p, []Publish{want}) {
			t.Errorf("%s: %+v, %v", text, p, err)
			continue
		}
		if again, err := ParsePublish(p[0].String()); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%s: %s is %+v, %v", text, p, again, err)
		}
	}
	for text, want := range map[string]string{
		"8080-8082:80-82": "[8080:80/tcp 8081:81/tcp 8082:82/tcp]", "53-54/udp": "[53:53/udp 54:54/udp]", "80-80:81-81": "[80:81/tcp]",
		"192.0.2.1:65534-65535:1-2,mode=host":            "[192.0.2.1:65534:1/tcp,mode=host 192.0.2.1:65535:2/tcp,mode=host]",
		"published=8080-8081,target=80-81,protocol=sctp": "[8080:80/sctp 8081:81/sctp]",
		"8080-8081:80":                "want two ranges of the same length",
		"8080:80-81":                  "want two ranges of the same length",
		"1-33:1-33":                   "33 ports: a service has up to 32",
		"1-65535:1-65535":             "65535 ports: a service has up to 32",
		"[fe80::1]:8080:80":           `publish "[fe80::1]:8080:80": address fe80::1: is of one link: no answer of a container's leads there: leave it out (then all hosts answer), or give one that others reach a host by`,
		"[fe80::1%eth0]:80,mode=host": "address fe80::1%eth0: is of one link",
		"[fd01::1%eth0]:80:80":        "address fd01::1%eth0: is of one link",
		"224.0.0.1:80":                "address 224.0.0.1: is no host's: leave it out",
		"[ff02::1]:80/udp":            "address ff02::1: is no host's: leave it out",
		"255.255.255.255:80":          "address 255.255.255.255: is no host's: leave it out",
	} {
		p, err := ParsePublish(text)
		if got := fmt.Sprint(p, err); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{
		"", ",", "x", "0", "70000", "80:0", "80:70000", "80:81:82", "80/", "80/icmp", "80,", "80,mode=", "80,mode=other", "80,target=81", "80,mode=host,mode=host", "81-80:81-80", "80-:80-", "-80", "80-81-82",
		"fd01::1:80:80", "[fd01::1]80", "[fd01::1%eth0]:80:80", "[::ffff:1.2.3.4]:80:80", "1.2.3:80:80", "-1", "+1:80", " 80", "80 ", "published=80", "target=80", "published=80,target=80,mode=x",
		"published=80,target=80,x=y", "published=80,target=80,target=81", "published=,target=80", "published=80,target=80,", "published=80,target=80,protocol=", "mode=host", "80\n:80", "8080:80,\x1b[31m", "[fe80::1%\x1b[31m]:80:80",
	} {
		p, err := ParsePublish(text)
		if err == nil || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
}

func TestJoinPublish(t *testing.T) {
	for _, c := range []struct{ all, want string }{
		{"", "[]"},
		{"80 81", "[80:80/tcp 81:81/tcp]"},
		{"192.0.2.2:80 81 192.0.2.1:80 [2001:db8::1]:80", "[192.0.2.1:80:80/tcp, 192.0.2.2:80:80/tcp, [2001:db8::1]:80:80/tcp 81:81/tcp]"},
		{"192.0.2.1:80 192.0.2.1:80", "[192.0.2.1:80:80/tcp 192.0.2.1:80:80/tcp]"},
		{"80 192.0.2.1:80", "[80:80/tcp 192.0.2.1:80:80/tcp]"},
		{"192.0.2.1:80:81 192.0.2.2:80:82", "[192.0.2.1:80:81/tcp 192.0.2.2:80:82/tcp]"},
		{"192.0.2.1:80/udp 192.0.2.2:80", "[192.0.2.1:80:80/udp 192.0.2.2:80:80/tcp]"},
		{"192.0.2.1:80,mode=host 192.0.2.2:80", "[192.0.2.1:80:80/tcp,mode=host 192.0.2.2:80:80/tcp]"},
	} {
		var all []Publish
		for text := range strings.FieldsSeq(c.all) {
			p, err := ParsePublish(text)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p...)
		}
		if got := fmt.Sprint(JoinPublish(all)); got != c.want {
			t.Errorf("%s: %s, want %s", c.all, got, c.want)
		}
	}
}

func TestCheckPublish(t *testing.T) {
	one := func(text string) Publish {
		p, err := ParsePublish(text)
		if err != nil {
			t.Fatal(err)
		}
		return p[0]
	}
	base := Service{Name: "web", Ports: []ServicePort{{80, "tcp"}, {53, "udp"}}}
	for _, c := range []struct {
		all   []Publish
		dnsrr bool
		want  string
	}{
		{[]Publish{one("8080:80"), one("8080:53/udp"), one("8081:80")}, false, ""},
		{[]Publish{one("8080:81")}, false, "publish 8080:81/tcp: the service has no port 81/tcp"},
		{[]Publish{one("8080:80"), one("192.0.2.1:8080:80")}, false, "publish 192.0.2.1:8080:80/tcp: port 8080/tcp is published already, as 8080:80/tcp: give another, or take that one away first"},
		{[]Publish{one("8080:80")}, true, "mode=host only"},
		{[]Publish{one("8080:80,mode=host")}, true, ""},
		{[]Publish{{Port: 8080, Target: 80, Proto: "tcp", Addrs: []netip.Addr{netip.IPv4Unspecified()}}}, false, "want one of a host"},
		{[]Publish{{Port: 8080, Target: 80, Proto: "tcp", Addrs: []netip.Addr{{}}}}, false, "want one of a host"},
		{[]Publish{one("127.0.0.1:8080:80")}, false, "address 127.0.0.1: each host has it, and nobody else reaches it: leave it out"},
		{[]Publish{one("[::1]:8080:80")}, false, "address ::1: each host has it, and nobody else reaches it: leave it out"},
		{[]Publish{{Port: 0, Target: 80, Proto: "tcp"}}, false, "from 1 on"},
	} {
		s := base
		s.Publish, s.DNSRR = c.all, c.dnsrr
		if err := s.Validate(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.all, err, c.want)
		}
	}
	old := base // an older daemon took that, and it still can be read and removed
	old.Publish = []Publish{{Port: 8080, Target: 80, Proto: "tcp", Addrs: []netip.Addr{netip.MustParseAddr("fe80::1")}}}
	if err := old.Validate(); err != nil {
		t.Error(err)
	}
	if m := one("192.0.2.1:8080:80").Mappings(); len(m) != 1 || m[0].Validate() != nil || m[0].HostPort != 8080 || m[0].HostIP != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("%+v", m)
	}
	if at := one("[fd01::1]:8080:80").At(); at != "port [fd01::1]:8080/tcp" {
		t.Error(at)
	}
}
