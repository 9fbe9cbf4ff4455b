package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/api"
)

// written puts a configuration together: the keys that all have, and more.
func written(keys string) string {
	if keys != "" {
		keys = "," + keys
	}
	return `{"cniVersion":"1.1.0","name":"app","type":"sealane-cni"` + keys + `}`
}

func TestNetworks(t *testing.T) {
	v4, v6 := api.SubnetSpec{Prefix: "10.1.0.0/16"}, api.SubnetSpec{Prefix: "fd01::/64"}
	for _, c := range []struct {
		keys string
		want api.NetworkSpec
	}{
		{``, api.NetworkSpec{}},
		{`"subnet":"10.1.0.0/16"`, api.NetworkSpec{Subnets: []api.SubnetSpec{v4}}},
		{`"subnets":["fd01::/64","10.1.0.0/16"],"gateway":["10.1.0.9","fd01::9"],"ipRange":"10.1.128.0/17"`, api.NetworkSpec{Subnets: []api.SubnetSpec{
			{Prefix: "10.1.0.0/16", Gateway: "10.1.0.9", Range: "10.1.128.0/17"}, {Prefix: "fd01::/64", Gateway: "fd01::9"}}}},
		{`"driver":"bridge","internal":true,"ipv6":true,"mtu":1400,"labels":{"a":"b"},"options":{"icc":"false"}`, api.NetworkSpec{
			Driver: "bridge", Internal: true, IPv6: true, Labels: map[string]string{"a": "b"}, Options: map[string]string{"icc": "false", "mtu": "1400"}}},
		{`"subnet":"fd01::/64"`, api.NetworkSpec{Subnets: []api.SubnetSpec{v6}, IPv4: new(bool)}},
		{`"ipam":{"type":"host-local","ranges":[[{"subnet":"fd01::/64"}]]}`, api.NetworkSpec{Subnets: []api.SubnetSpec{v6}, IPv4: new(bool)}},
		{`"ipv6":true`, api.NetworkSpec{IPv6: true}},
		// What is installed with container engines.
		{`"bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,"promiscMode":true,"mtu":0,"ipam":{"type":"host-local",
		  "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}],"ranges":[[{"subnet":"10.1.0.0/16"}],[{"subnet":"fd01::/64"}]]}`, api.NetworkSpec{
			Subnets: []api.SubnetSpec{v4, v6}, Options: map[string]string{"name": "cni0", "masquerade": "true"}}},
		{`"ipMasq":false,"portIsolation":true,"isDefaultGateway":true,"ipam":{}`, api.NetworkSpec{Options: map[string]string{"masquerade": "false", "icc": "false"}}},
		{`"ipam":{"type":"host-local","subnet":"10.1.2.3/16","rangeStart":"10.1.0.2","rangeEnd":"10.1.255.254","gateway":"10.1.0.1","dataDir":"/x"}`,
			api.NetworkSpec{Subnets: []api.SubnetSpec{{Prefix: "10.1.0.0/16", Gateway: "10.1.0.1"}}}},
		{`"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/16","rangeStart":"10.1.64.0","rangeEnd":"10.1.127.255"}]],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.7"}]}`,
			api.NetworkSpec{Subnets: []api.SubnetSpec{{Prefix: "10.1.0.0/16", Range: "10.1.64.0/18", Gateway: "10.1.0.7"}}}},
		{`"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/16"}]]},"capabilities":{"ipRanges":true}`, api.NetworkSpec{Subnets: []api.SubnetSpec{v4}}},
		{`"disableCheck":true,"args":{"cni":{"labels":[{"key":"a","value":"b"}]},"more":1},"cni.dev/any":{},"prevResult":null,"dns":{}`, api.NetworkSpec{}},
	} {
		got, err := readConfig(strings.NewReader(written(c.keys)), false)
		if err != nil {
			t.Errorf("%s: %v", c.keys, err)
			continue
		}
		c.want.Name = "app"
		if diff := cmp.Diff(c.want, got.network); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.keys, diff)
		}
	}
}

func TestRefusedConfigurations(t *testing.T) {
	for text, want := range map[string]struct {
		code uint
		says string
	}{
		``:                                  {codeDecode, "configuration: empty"},
		` `:                                 {codeDecode, "configuration: empty"},
		`{`:                                 {codeDecode, "not a JSON object"},
		`null`:                              {codeDecode, "not a JSON object"},
		`[]`:                                {codeDecode, "not a JSON object"},
		"\x00\xff\x13":                      {codeDecode, "not a JSON object"},
		written(``) + `{}`:                  {codeDecode, "not a JSON object"},
		`{"name":"app"}`:                    {codeVersion, `cniVersion "": not supported (supported: 0.3.1, 0.4.0, 1.0.0, 1.1.0)`},
		`{"cniVersion":"0.2.0","name":"a"}`: {codeVersion, `cniVersion "0.2.0"`},
		`{"cniVersion":1,"name":"a"}`:       {codeConfig, "cniVersion: want a string, not a number"},
		`{"cniVersion":"1.0.0"}`:            {codeConfig, "name: missing"},
		written(`"nothing":1`):              {codeField, `key "nothing": not known (known: driver, subnet,`},
		written(`"Subnet":"10.1.0.0/16"`):   {codeField, `; its value is "10.1.0.0/16"`},
		written(`"mtu":"big"`):              {codeConfig, "mtu: want a whole number, not a string"},
		written(`"mtu":1.5`):                {codeConfig, "mtu: want a whole number, not 1.5"},
		written(`"mtu":[{}]`):               {codeConfig, "mtu: want a whole number, not a list"},
		written(`"dns":"a"`):                {codeConfig, "dns: want an object, not a string"},
		written(`"runtimeConfig":{"bandwidth":{"ingressRate":-1}}`):                                      {codeConfig, "runtimeConfig: bandwidth.ingressRate: want a whole number from 0, not -1"},
		written(`"runtimeConfig":{"bandwidth":{"egressRate":1e99}}`):                                     {codeConfig, "runtimeConfig: bandwidth.egressRate: want a whole number from 0, not 1e99"},
		written(`"runtimeConfig":{"ips":[7]}`):                                                           {codeConfig, "runtimeConfig: ips: want a string, not a number"},
		written(`"nothing":[1, "` + strings.Repeat("ä", maxConfig/4) + `"]`):                             {codeField, `; its value is [1,"ää`},
		written(`"mtu":1400,"options":{"mtu":"1500"}`):                                                   {codeConfig, `option mtu is "1400" and "1500"`},
		written(`"options":{"icc":true}`):                                                                {codeConfig, "options: want a string, not true or false"},
		written(`"subnet":7`):                                                                            {codeConfig, "subnet: want a string or a list of strings"},
		written(`"gateway":"10.1.0.1"`):                                                                  {codeConfig, "gateway 10.1.0.1: in none of the subnets"},
		written(`"gateway":"x"`):                                                                         {codeConfig, `gateway "x": want an IP address`},
		written(`"subnet":"10.1.0.0/16","ipRange":"10.2.0.0/24"`):                                        {codeConfig, "ipRange 10.2.0.0/24: in none"},
		written(`"ipRange":"10.2.0.0"`):                                                                  {codeConfig, `ipRange "10.2.0.0": want`},
		written(`"isGateway":false`):                                                                     {codeConfig, "isGateway: false: the bridge has the gateway's address; leave the key out"},
		written(`"vlan":5`):                                                                              {codeField, `key "vlan": not known`},
		written(`"ipam":{"type":"dhcp"}`):                                                                {codeConfig, `ipam: type "dhcp": want host-local`},
		written(`"ipam":{"type":"host-local","resolvConf":"/x"}`):                                        {codeField, `ipam: unknown field "resolvConf" in {"type":"host-local","resolvConf":"/x"}`},
		written(`"ipam":{"type":"host-local","subnet":"10.1.0.0"}`):                                      {codeConfig, `ipam: subnet "10.1.0.0": want ADDRESS/BITS`},
		written(`"ipam":{"type":"host-local","subnet":"10.1.0.0/16","routes":[{"dst":"192.0.2.0/24"}]}`): {codeConfig, "ipam: routes: 192.0.2.0/24"},
		written(`"ipam":{"type":"host-local","subnet":"10.1.0.0/24","rangeStart":"10.1.0.10","rangeEnd":"10.1.0.20"}`):                      {codeConfig, "ipam: range 10.1.0.10 to 10.1.0.20: want one that is a prefix"},
		written(`"ipam":{"type":"host-local","subnet":"10.1.0.0/24","rangeStart":"10.2.0.10"}`):                                             {codeConfig, `ipam: rangeStart "10.2.0.10": want an address of 10.1.0.0/24`},
		written(`"ipam":{"type":"host-local","subnet":"10.1.0.0/24","rangeStart":"10.1.0.2","rangeEnd":"10.1.0.254","gateway":"10.1.0.9"}`): {codeConfig, "ipam: range 10.1.0.2 to 10.1.0.254"},
		written(`"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"},{"subnet":"10.2.0.0/24"}]]}`):                              {codeConfig, "ipam: ranges: a set of 2"},
		written(`"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.2.0.0/24"}]]}`):                            {codeConfig, "ipam: ranges: subnet 10.2.0.0/24: want one of each address family"},
		written(`"runtimeConfig":{"cgroupPath":"/x"}`):                                                                                      {codeField, `runtimeConfig: capability "cgroupPath": not known (known: portMappings,`},
		written(`"runtimeConfig":{"aliases":7}`):                                                                                            {codeConfig, "runtimeConfig: "},
		written(`"runtimeConfig":{"mac":1}`):                                                                                                {codeConfig, "runtimeConfig: mac: want a string, not a number"},
		strings.Replace(written(`"labels":{"a":"`)+`"}}`, `"}"}}`, strings.Repeat("x", maxConfig)+`"}}`, 1):                                 {codeDecode, "configuration: longer than"},
	} {
		_, err := readConfig(strings.NewReader(text), false)
		if err == nil || codeOf(err) != want.code || !strings.Contains(err.Error(), want.says) || strings.Contains(err.Error(), "json: ") {
			t.Errorf("%.200s: code %d, %v; want %d, %s", text, codeOf(err), err, want.code, want.says)
		}
	}
}

// TestLaxConfigurations: what is taken away was put there under a configuration
// that may have become another one since.
func TestLaxConfigurations(t *testing.T) {
	c, err := readConfig(strings.NewReader(written(`"nothing":1,"mtu":"big","socket":"/s","ipam":7,"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b","more":1}]`)), true)
	if err != nil || c.network.Name != "app" || c.socket != "/s" || !slices.Equal(*c.valid, []attachment{{"a", "b"}}) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := readConfig(strings.NewReader(written(`"cni.dev/valid-attachments":7`)), true); codeOf(err) != codeConfig {
		t.Errorf("attachments that are none: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	given := map[string]string{envContainer: "c1", envNetNS: "/run/netns/c1", envIfName: "eth0"}
	add, _ := find("ADD")
	del, _ := find("DEL")
	for _, c := range []struct {
		cmd       command
		name, set string
		says      string // "" is accepted
	}{
		{add, envContainer, "", "ADD: missing: CNI_CONTAINERID"},
		{add, envContainer, "a/b", `CNI_CONTAINERID: name "a/b"`},
		{add, envContainer, strings.Repeat("0", 129), "CNI_CONTAINERID"},
		{add, envContainer, strings.Repeat("0", 128), ""},
		{add, envIfName, "abcdefghijklmnop", "16 bytes"},
		{add, envIfName, "..", "CNI_IFNAME"},
		{add, envIfName, "a b", "CNI_IFNAME"},
		{add, envIfName, "a:b", "CNI_IFNAME"},
		{add, envNetNS, "", "ADD: missing: CNI_NETNS"},
		{add, envNetNS, "netns/c1", "want an absolute path"},
		{add, envNetNS, "/proc/self/ns/net", "is the host's own network namespace"},
		{add, envArgs, "IP", "want KEY=VALUE"},
		{add, envArgs, "IP=;MAC=;SEALANE_SERVICE=", ""},
		{add, envArgs, "MAC=zz", `CNI_ARGS: MAC=zz: mac-address "zz": want six bytes`},
		{add, envArgs, "IgnoreUnknown=perhaps", "CNI_ARGS: IgnoreUnknown=perhaps: want 1 or 0"},
		{del, envNetNS, "", ""},
		{del, envArgs, "IP", ""},
		{del, envIfName, "", "DEL: missing: CNI_IFNAME"},
	} {
		env := maps.Clone(given)
		env[c.name] = c.set
		_, err := readEnvironment(func(name string) string { return env[name] }, c.cmd)
		if c.says == "" && err != nil || c.says != "" && (err == nil || codeOf(err) != codeEnvironment || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s %s=%s: %v, want %q", c.cmd.name, c.name, c.set, err, c.says)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, c := range []struct {
		keys, args string
		want       api.EndpointOptions
		code       uint
	}{
		{``, ``, api.EndpointOptions{}, 0},
		{`"runtimeConfig":{"ips":["10.1.0.5/16","fd01::5"],"mac":"02:00:00:00:00:01","aliases":{"app":["a","a"],"other":["b"]}}`, `IP=10.1.0.5;MAC=02:00:00:00:00:02`,
			api.EndpointOptions{IP: "10.1.0.5", IP6: "fd01::5", MAC: "02:00:00:00:00:01", Aliases: []string{"a"}}, 0},
		{`"args":{"cni":{"ips":["10.1.0.5"]}}`, `MAC=02:00:00:00:00:02;IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0;Any=1;K8S_POD_UID=7`,
			api.EndpointOptions{IP: "10.1.0.5", MAC: "02:00:00:00:00:02", Aliases: []string{"web-0", "web-0.prod"}}, 0},
		{`"runtimeConfig":{"bandwidth":{"ingressRate":1000000,"ingressBurst":2,"egressRate":3000000,"egressBurst":4}}`, ``,
			api.EndpointOptions{EndpointLimits: api.EndpointLimits{IngressRate: 1000000, IngressBurst: 2, EgressRate: 3000000, EgressBurst: 4}}, 0},
		{`"service":["web:8080*2","db"]`, ``, api.EndpointOptions{Options: map[string]string{"service": "web:8080*2,db"}}, 0},
		{`"service":"web","args":{"cni":{"sealane.service":"db"}}`, ``, api.EndpointOptions{Options: map[string]string{"service": "db"}}, 0},
		{`"service":"web","args":{"cni":{"sealane.service":"db"}}`, `SEALANE_SERVICE=api:1`, api.EndpointOptions{Options: map[string]string{"service": "db"}}, 0},
		{`"service":"web"`, `SEALANE_SERVICE=api:1`, api.EndpointOptions{Options: map[string]string{"service": "api:1"}}, 0},
		{``, `SEALANE_SERVICE=web,WEB`, api.EndpointOptions{}, codeEnvironment},
		{`"args":{"cni":{"sealane.service":"web,WEB"}}`, ``, api.EndpointOptions{}, codeConfig},
		{`"service":"web,WEB"`, ``, api.EndpointOptions{}, codeConfig},
		{`"runtimeConfig":{"aliases":["a","b"]}`, ``, api.EndpointOptions{Aliases: []string{"a", "b"}}, 0},
		{``, `K8S_POD_NAME=web-0`, api.EndpointOptions{Aliases: []string{"web-0"}}, 0},
		{``, `K8S_POD_NAMESPACE=prod;K8S_POD_NAME=` + strings.Repeat("w", 64), api.EndpointOptions{}, 0},
		{``, `IP=10.1.0.5,fd01::5;IgnoreUnknown=false`, api.EndpointOptions{IP: "10.1.0.5", IP6: "fd01::5"}, 0},
		{``, `GATEWAY=10.1.0.1`, api.EndpointOptions{}, codeEnvironment},
		{``, `IgnoreUnknown=perhaps`, api.EndpointOptions{}, codeEnvironment},
		{`"runtimeConfig":{"ips":["10.1.0.5"]}`, `IP=10.1.0.6,fd01::6`, api.EndpointOptions{IP: "10.1.0.5", IP6: "fd01::6"}, 0},
		{`"args":{"cni":{"ips":["10.1.0.5"]}}`, `IP=10.1.0.6,fd01::6`, api.EndpointOptions{IP: "10.1.0.5"}, 0},
		{`"args":{"cni":{"ips":["10.1.0.5"]}}`, `IP=ten`, api.EndpointOptions{IP: "10.1.0.5"}, 0},
		{`"runtimeConfig":{"ips":["10.1.0.5"]},"args":{"cni":{"ips":["10.1.0.6/24","fd01::6"]}}`, ``, api.EndpointOptions{IP: "10.1.0.5", IP6: "fd01::6"}, 0},
		{`"runtimeConfig":{"ips":["10.1.0.5","10.1.0.6"]}`, ``, api.EndpointOptions{}, codeConfig},
		{``, `IP=10.1.0.5,10.1.0.6`, api.EndpointOptions{}, codeEnvironment},
		{``, `IP=ten`, api.EndpointOptions{}, codeEnvironment},
		{``, `IP=fe80::1%eth0`, api.EndpointOptions{}, codeEnvironment},
		{``, `IP=`, api.EndpointOptions{}, 0},
		{`"runtimeConfig":{"ips":["fe80::1%eth0"]}`, ``, api.EndpointOptions{}, codeConfig},
		{`"runtimeConfig":{"ips":["ten"]}`, ``, api.EndpointOptions{}, codeConfig},
	} {
		conf, err := readConfig(strings.NewReader(written(c.keys)), false)
		if err != nil {
			t.Fatal(err)
		}
		r := &request{config: conf}
		var got api.EndpointOptions
		if r.env.args, err = parseArguments(c.args); err == nil {
			got, err = r.endpoint()
		}
		switch {
		case c.code != 0 && (err == nil || codeOf(err) != c.code):
			t.Errorf("%s %s: %v, want code %d", c.keys, c.args, err, c.code)
		case c.code == 0 && (err != nil || !cmp.Equal(c.want, got)):
			t.Errorf("%s %s: %v, -want +got\n%s", c.keys, c.args, err, cmp.Diff(c.want, got))
		}
	}
}

func TestPorts(t *testing.T) {
	r := runtimeConfig{Ports: []portMapping{
		{8080, 80, "TCP", ""}, {53, 5353, "udp", "192.0.2.1"}, {8443, 443, "", "2001:db8::1"}, {8080, 80, "tcp", ""},
	}}
	got, err := r.published()
	if want := []string{"8080:80/tcp", "192.0.2.1:53:5353/udp", "[2001:db8::1]:8443:443"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for _, bad := range []portMapping{{0, 80, "tcp", ""}, {80, 0, "tcp", ""}, {-1, 80, "tcp", ""}, {80, 80, "tcp", "host"}} {
		if _, err := (runtimeConfig{Ports: []portMapping{bad}}).published(); codeOf(err) != codeConfig {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestExample: what is installed as an example is a configuration.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../init/10-sealane.conflist")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Version string           `json:"cniVersion"`
		Name    string           `json:"name"`
		Plugins []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list.Plugins) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	one := list.Plugins[0]
	one["cniVersion"], one["name"] = list.Version, list.Name
	text, _ = json.Marshal(one)
	if c, err := readConfig(bytes.NewReader(text), false); err != nil || c.network.Name != "pods" {
		t.Errorf("%v", err)
	}
}

// FuzzConfig: whatever stands on standard input, the answer is a configuration
// that can be used, or an error with a code of its own.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{``, `{}`, written(``), written(`"subnet":["10.1.0.0/16"],"gateway":"10.1.0.1","ipam":{"type":"host-local","ranges":[[{"subnet":"fd01::/64","rangeStart":"fd01::2"}]]}`),
		written(`"runtimeConfig":{"ips":["10.1.0.5"],"portMappings":[{"hostPort":1,"containerPort":1}],"bandwidth":{"ingressRate":1}},"prevResult":{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.1/24","interface":0}]}`),
		written(`"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}],"args":{"cni":{"ips":["x"]}},"dns":{"nameservers":["a"]}`)} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, lax bool) {
		c, err := readConfig(strings.NewReader(text), lax)
		if err != nil {
			if _, ok := errors.AsType[*coded](err); !ok {
				t.Errorf("no code: %v", err)
			}
			return
		}
		if c.network.Name == "" || !slices.Contains(versions(), c.version) {
			t.Errorf("accepted: %+v", c)
		}
		if _, err := json.Marshal(c.network); err != nil {
			t.Errorf("network: %v", err)
		}
		prev, err := c.previous()
		if err != nil {
			return
		}
		r := &request{config: c}
		if _, err := r.result(prev, api.Endpoint{}).GetAsVersion(c.version); err != nil {
			t.Errorf("result: %v", err)
		}
		r.compare(prev, api.Sandbox{}, api.Endpoint{}, nil)
	})
}

func FuzzArguments(f *testing.F) {
	for _, text := range []string{"", "IP=10.0.0.1", "IgnoreUnknown=1;A=B;;K8S_POD_NAME=x", "=;=", "IP=,"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseArguments(text); err != nil && codeOf(err) != codeEnvironment {
			t.Errorf("code %d: %v", codeOf(err), err)
		}
	})
}
