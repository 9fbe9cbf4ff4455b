package model

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParsePort(t *testing.T) {
	at := netip.MustParseAddr
	for s, want := range map[string]PortMapping{
		"80":                                {Proto: "tcp", Port: 80, Count: 1},
		"80/udp":                            {Proto: "udp", Port: 80, Count: 1},
		"80/TCP":                            {Proto: "tcp", Port: 80, Count: 1},
		"80-89":                             {Proto: "tcp", Port: 80, Count: 10},
		":80":                               {Proto: "tcp", Port: 80, Count: 1},
		"0:80":                              {Proto: "tcp", Port: 80, Count: 1},
		"0:80-81/udp":                       {Proto: "udp", Port: 80, Count: 2},
		"127.0.0.1:0:80":                    {Proto: "tcp", HostIP: at("127.0.0.1"), Port: 80, Count: 1},
		":8060:80":                          {Proto: "tcp", HostPort: 8060, Port: 80, Count: 1},
		":0:80":                             {Proto: "tcp", Port: 80, Count: 1},
		"::80":                              {Proto: "tcp", Port: 80, Count: 1},
		"8080:80":                           {Proto: "tcp", HostPort: 8080, Port: 80, Count: 1},
		"65535:65535":                       {Proto: "tcp", HostPort: 65535, Port: 65535, Count: 1},
		"1-65535:1-65535":                   {Proto: "tcp", HostPort: 1, Port: 1, Count: 65535},
		"8000-8009:80-89/udp":               {Proto: "udp", HostPort: 8000, Port: 80, Count: 10},
		"8000-8009:80":                      {Proto: "tcp", HostPort: 8000, HostEnd: 8009, Port: 80, Count: 1},
		"8000-8000:80":                      {Proto: "tcp", HostPort: 8000, Port: 80, Count: 1},
		"192.0.2.1:8080:80":                 {Proto: "tcp", HostIP: at("192.0.2.1"), HostPort: 8080, Port: 80, Count: 1},
		"192.0.2.1::80":                     {Proto: "tcp", HostIP: at("192.0.2.1"), Port: 80, Count: 1},
		"192.0.2.1::80-81":                  {Proto: "tcp", HostIP: at("192.0.2.1"), Port: 80, Count: 2},
		"127.0.0.1:8000-8001:80":            {Proto: "tcp", HostIP: at("127.0.0.1"), HostPort: 8000, HostEnd: 8001, Port: 80, Count: 1},
		"0.0.0.0:8080:80":                   {Proto: "tcp", HostIP: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Count: 1},
		"[::1]:8080:80":                     {Proto: "tcp", HostIP: at("::1"), HostPort: 8080, Port: 80, Count: 1},
		"[::]:8080:80":                      {Proto: "tcp", HostIP: at("::"), HostPort: 8080, Port: 80, Count: 1},
		"[2001:DB8::1]::80":                 {Proto: "tcp", HostIP: at("2001:db8::1"), Port: 80, Count: 1},
		"[2001:db8::1]:8000-8001:80-81/udp": {Proto: "udp", HostIP: at("2001:db8::1"), HostPort: 8000, Port: 80, Count: 2},
		"[::ffff:192.0.2.1]:8080:80":        {Proto: "tcp", HostIP: at("192.0.2.1"), HostPort: 8080, Port: 80, Count: 1},
	} {
		got, err := ParsePort(s)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", s, got, err, want)
		}
		checkRoundTrip(t, got)
	}
}

func checkRoundTrip(t *testing.T, m PortMapping) {
	t.Helper()
	if err := m.Validate(); err != nil {
		t.Errorf("%+v: %v", m, err)
	}
	again, err := ParsePort(m.String())
	if err != nil || again != m {
		t.Errorf("%+v prints as %s, which reads as %+v, %v", m, m, again, err)
	}
}

func TestParsePortRefuses(t *testing.T) {
	for s, want := range map[string]string{
		"":                       `container port "": want a number from 1 to 65535`,
		"0":                      `container port "0": want a number from 1 to 65535`,
		"65536":                  `container port "65536": want`,
		"http":                   `container port "http": want`,
		"-80":                    `container port "-80": want`,
		"+80":                    `container port "+80": want`,
		" 80":                    `container port " 80": want`,
		"80-":                    `container port "80-": want`,
		"90-80":                  `container port "90-80": want a number from 1 to 65535, or FIRST-LAST`,
		"80-90-95":               `container port "80-90-95": want`,
		"0-1:80":                 `host port "0-1": want a number from 1 to 65535`,
		"65536:80":               `host port "65536": want`,
		"9-8:80":                 `host port "9-8": want`,
		"8080:":                  `container port "": want`,
		"80/icmp":                `protocol "icmp": want tcp, udp or sctp`,
		"80/":                    `protocol "": want tcp, udp or sctp`,
		"80/tcp/udp":             `container port "80/tcp": want`,
		"8000-8001:80-82":        `2 host ports for 3 container ports: want as many, or one container port`,
		"8000:80-82":             `1 host ports for 3 container ports: want as many`,
		"127.0.0.1:80":           `host port "127.0.0.1": want a number`,
		"[::1]:80":               `host port "[::1]": want a number`,
		"::1:8080:80":            `host address "::1": want an IPv4 address, or an IPv6 address in brackets`,
		"2001:db8::1:8080:80":    `host address "2001:db8::1": want an IPv4 address, or an IPv6 address in brackets`,
		"[127.0.0.1]:8080:80":    `host address "[127.0.0.1]": want an IPv4 address`,
		"[fe80::1%eth0]:8080:80": `host address "[fe80::1%eth0]": want [fe80::1], which is the address on whichever device has it`,
		"[::1:8080:80":           `host address "[::1": want`,
		"300.0.0.1:8080:80":      `host address "300.0.0.1": want`,
		"localhost:8080:80":      `host address "localhost": want an IPv4 address`,
		"[]:8080:80":             `host address "[]": want`,
		"224.0.0.1:8080:80":      `host address 224.0.0.1: not an address of a host`,
		"8080;reboot:80":         `host port "8080;reboot": want`,
	} {
		m, err := ParsePort(s)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "port ") {
			t.Errorf("%q: got %+v, %v, want an error with %s", s, m, err, want)
		}
	}
}

func TestParseLongPort(t *testing.T) {
	for _, c := range []struct{ text, want, err string }{
		{"published=8080,target=80", "8080:80/tcp", ""},
		{"published=0,target=80", "80/tcp", ""},
		{"target=80,protocol=udp", "80/udp", ""},
		{"published=8080,target=80,host-ip=::1,protocol=tcp", "[::1]:8080:80/tcp", ""},
		{"target=80,host-ip=192.0.2.1,mode=host", "192.0.2.1::80/tcp", ""},
		{"published=8000-8001,target=80-81,protocol=sctp", "8000-8001:80-81/sctp", ""},
		{"target=80,from=10.0.0.0/8;2001:db8::/32;10.1.0.0/16", "80/tcp from 10.0.0.0/8;2001:db8::/32", ""},
		{"target=80,from=192.0.2.7", "80/tcp from 192.0.2.7/32", ""},
		{"target=80,from=10.0.0.1/8", "", "host bits are set, should be 10.0.0.0/8"},
		{"target=80,from=all", "", `from "all": want CIDR;CIDR`},
		{"published=8080,target=80,host-ip=[::1],protocol=TCP", "[::1]:8080:80/tcp", ""},
		{"published=80", "", "target: missing"},
		{"published=80/udp,target=80", "", `published "80/udp": want a number`},
		{"target=80/udp", "", `target "80/udp": want a number`},
		{"target=8080:80", "", `target "8080:80": want a number`},
		{"target=127.0.0.1:8080:80", "", `target "127.0.0.1:8080:80": want a number`},
		{"published=70000,target=80", "", `: published "70000": want a number`},
		{"published=81-80,target=80", "", `: published "81-80": want a number`},
		{"target=0", "", `: target "0": want a number`},
		{"target=80,protocol=tcp/udp", "", `: protocol "tcp/udp": want tcp, udp or sctp`},
		{"target=80,host-ip=[::1", "", `: host-ip "[::1": want an IPv4 address`},
		{"target=80,host-ip=127.0.0.1:99", "", `: host-ip "127.0.0.1:99": want an IPv4 address`},
		{"target=80,host-ip=fe80::1%eth0", "", `: host-ip "[fe80::1%eth0]": want [fe80::1],`},
		{"target=80,host-ip=ff02::1", "", `: host-ip ff02::1: not an address of a host`},
		{"published=127.0.0.1:80,target=80", "", `published "127.0.0.1:80": want a number`},
		{"target=80,mode=vip", "", `mode "vip": want host or ingress`},
		{"target=80,name=web", "", `key "name": not known (known: published, target, protocol, host-ip, from, mode)`},
		{"target=80,target=81", "", "target: is there twice"},
		{"target=80,", "", "want KEY=VALUE"},
	} {
		m, err := ParsePort(c.text)
		switch {
		case c.err == "" && (err != nil || m.String() != c.want || m.Validate() != nil):
			t.Errorf("%q: got %s, %v, want %s", c.text, m, err, c.want)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q: got %s, %v, want an error with %s", c.text, m, err, c.err)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"80", "8000-8010:80/udp", "[::1]::80-81", "127.0.0.1:1-2:3-4", ":1", "[::ffff:1.2.3.4]:1:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParsePort(s); err == nil {
			checkRoundTrip(t, m)
		}
	})
}

func TestPortValidate(t *testing.T) {
	good := PortMapping{Proto: "tcp", HostPort: 8080, Port: 80, Count: 1}
	for _, c := range []struct {
		name   string
		change func(*PortMapping)
		want   string
	}{
		{"protocol", func(m *PortMapping) { m.Proto = "icmp" }, `protocol "icmp": want tcp, udp or sctp`},
		{"no port", func(m *PortMapping) { m.Port = 0 }, "want ports from 1 to 65535"},
		{"none", func(m *PortMapping) { m.Count = 0 }, "want ports from 1 to 65535"},
		{"beyond the last container port", func(m *PortMapping) { m.Port, m.Count = 65535, 2 }, "want ports"},
		{"beyond the last host port", func(m *PortMapping) { m.HostPort, m.Count = 65535, 2 }, "want ports"},
		{"range reversed", func(m *PortMapping) { m.HostEnd = 8000 }, "FIRST-LAST"},
		{"range for two", func(m *PortMapping) { m.HostEnd, m.Count = 8090, 2 }, "FIRST-LAST"},
		{"multicast", func(m *PortMapping) { m.HostIP = netip.MustParseAddr("ff02::1") }, "host address ff02::1"},
		{"zone", func(m *PortMapping) { m.HostIP = netip.MustParseAddr("fe80::1%eth0") }, "host address fe80::1%eth0"},
		{"mapped", func(m *PortMapping) { m.HostIP = netip.MustParseAddr("::ffff:192.0.2.1") }, "host address"},
	} {
		m := good
		c.change(&m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func TestMatches(t *testing.T) {
	parse := func(s string) PortMapping {
		m, err := ParsePort(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	published := parse("127.0.0.1:8080:80")
	for s, want := range map[string]bool{
		"80": true, "8080:80": true, "127.0.0.1:8080:80": true, "127.0.0.1::80": true,
		"81": false, "80/udp": false, "80-81": false, "8081:80": false, "127.0.0.2:8080:80": false,
		"target=80,from=10.9.9.9": false,
	} {
		if got := parse(s).Matches(published); got != want {
			t.Errorf("%s means %s: %v, want %v", s, published, got, want)
		}
	}
}

func TestAmong(t *testing.T) {
	published, _ := ParsePort("published=8000-8009,target=80-89,from=10.0.0.0/8")
	for s, want := range map[string]bool{
		"80": true, "89": true, "85-86": true, "8005:85": true, "target=85,from=10.0.0.0/8": true,
		"79": false, "90": false, "85/udp": false, "8085:85": false, "127.0.0.1::85": false, "target=85,from=10.9.9.9": false,
	} {
		m, err := ParsePort(s)
		if got := m.Among(published); err != nil || got != want {
			t.Errorf("%s is one of %s: %v, want %v, %v", s, published, got, want, err)
		}
	}
}

func TestMeet(t *testing.T) {
	at := func(s string) netip.Addr { a, _ := netip.ParseAddr(s); return a } // "" is every address
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"", "127.0.0.1", true}, {"", "::", true}, {"", "::1", true},
		{"::", "::1", true}, {"::", "127.0.0.1", false},
		{"127.0.0.1", "127.0.0.1", true}, {"127.0.0.1", "127.0.0.2", false}, {"127.0.0.1", "::1", false},
	} {
		if Meet(at(c.a), at(c.b)) != c.want || Meet(at(c.b), at(c.a)) != c.want {
			t.Errorf("%q and %q: want %v", c.a, c.b, c.want)
		}
	}
}
