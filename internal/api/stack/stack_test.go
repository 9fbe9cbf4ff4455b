package stack

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"gopkg.in/yaml.v3"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

var update = flag.Bool("update", false, "write the goldens anew")

// read reads a text as the file stack.yaml.
func read(text string, vars map[string]string) (api.Declaration, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 {
		return api.Declaration{}, fmt.Errorf("not YAML: %w", err)
	}
	if !Is(doc.Content[0]) {
		return api.Declaration{}, fmt.Errorf("no stack")
	}
	return Read(doc.Content[0], Options{File: "stack.yaml", Variables: vars})
}

// TestFiles reads whole files: what they declare, and what is said about the rest.
func TestFiles(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d, err := read(string(a.Files[0].Data), map[string]string{"PORT": "8081", "EMPTY": ""})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got := string(text) + "\n" + strings.Join(append(d.Notes, ""), "\n")
		if diff := cmp.Diff(string(a.Files[1].Data), got); diff != "" && !*update {
			t.Errorf("%s (- golden, + read; -update writes it anew):\n%s", name, diff)
		}
		if a.Files[1].Data = []byte(got); *update {
			if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPage reads the page's example.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/stack.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	if d, err := read(text, nil); err != nil || len(d.Networks) != 1 || len(d.Services) != 2 {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestRefused is what files cannot say, and where they say it.
func TestRefused(t *testing.T) {
	const head = "name: shop\nnetworks: {app: {}, back: {driver: bridge}, out: {external: true}}\nservices:\n  web:\n"
	for _, c := range []struct{ text, says string }{
		{"name: shop\nservics: {}", `stack.yaml:2: servics: not a known key (did you mean services?)`},
		{"name: shop\nqqqqqqqqq: {}", `stack.yaml:2: qqqqqqqqq: not a known key (known: configs, models, name, networks, secrets, services, version, volumes)`},
		{"services: {}", `stack.yaml:1: name: missing: want name: NAME, that of the stack`},
		{"name: a b\nservices: {}", `stack.yaml:1: name: `},
		{"name: shop\nnetworks: [{name: a}]", `stack.yaml:2: networks: want a mapping`},
		{"name: shop\nnetworks: {}\nnetworks: {}", `stack.yaml:3: networks: is there twice`},
		{"name: shop\ninclude: [x]", `stack.yaml:2: include: want one file`},
		{"name: shop\nendpoints: []", `stack.yaml:2: endpoints: is of a file whose networks are a list`},
		{"name: shop\nx-sealane: {}", `stack.yaml:2: x-sealane: is a key of services`},
		{"name: shop\nnetworks:\n  app:\n    subnet: x", `stack.yaml:4: networks.app.subnet: not a known key`},
		{"name: shop\nnetworks:\n  app: {driver: host}", `stack.yaml:3: networks.app.driver: "host": no such driver: want bridge, macvlan, `},
		{"name: shop\nnetworks:\n  app:\n    driver: nope", `stack.yaml:4: networks.app.driver: "nope": no such driver`},
		{"name: shop\nnetworks:\n  app: {internal: maybe}", `stack.yaml:3: networks.app.internal: "maybe": want true or false`},
		{"name: shop\nnetworks:\n  app: {external: true, driver: overlay}", `stack.yaml:3: networks.app.driver: the network is external`},
		{"name: shop\nnetworks:\n  app: {external: {name: x, y: z}}", `stack.yaml:3: networks.app.external.y: not a known key`},
		{"name: shop\nnetworks:\n  app: {name: x, external: {name: y}}", `networks.app.external.name: "y": it has the name x already`},
		{"name: shop\nnetworks:\n  app: {labels: {sealane.stack: x}}", `stack.yaml:3: networks.app.labels: sealane.stack: is what says`},
		{"name: shop\nnetworks:\n  app: {labels: [a=b, a=c]}", `stack.yaml:3: networks.app.labels[1]: a: is there twice`},
		{"name: shop\nnetworks:\n  app: {labels: {a: [b]}}", `stack.yaml:3: networks.app.labels.a: want a text`},
		{"name: shop\nnetworks:\n  app:\n    ipam:\n      config:\n      - subnet: 10.1.0.1/24", `stack.yaml:6: networks.app.ipam.config[0].subnet: 10.1.0.1/24: host bits are set, should be 10.1.0.0/24`},
		{"name: shop\nnetworks:\n  app: {ipam: {config: [{subnet: 10.1.0.0}]}}", `ipam.config[0].subnet: "10.1.0.0": want ADDRESS/BITS, as 10.1.0.0/16`},
		{"name: shop\nnetworks:\n  app: {ipam: {config: [{gateway: 10.1.0.1}]}}", `ipam.config[0]: subnet: missing`},
		{"name: shop\nnetworks:\n  app: {ipam: {config: [{subnet: 10.1.0.0/24, gateway: x}]}}", `gateway: "x": want an IP address`},
		{"name: shop\nnetworks:\n  app: {ipam: {driver: dhcp}}", `networks.app.ipam.driver: "dhcp": want default`},
		{"name: shop\nnetworks:\n  app: {ipam: {options: {a: b}}}", `networks.app.ipam.options: there are no options of it`},
		{"name: shop\nnetworks: {a: {name: x}, b: {name: x}}", `stack.yaml:2: networks.b: name x: networks.a has it`},
		{"name: shop\nnetworks: {'a b': {}}", `stack.yaml:2: networks.a b: `},
		{"name: shop\nservices:\n  a b: {}", `stack.yaml:3: services.a b: `},
		{"name: shop\nservices:\n  web: {expose: [80]}\n  WEB: {expose: [80]}", `stack.yaml:4: services.WEB: name WEB: services.web has it`},
		{"name: shop\nservices:\n  web: {ports: ['80:80']}\n  api: {ports: ['80:81']}", `stack.yaml:4: services.api.ports[0]: port 80/tcp: services.web publishes it`},
		{head + "    ports:\n    - 80:x", `stack.yaml:6: services.web.ports[0]: "80:x": want "PUBLISHED:TARGET", as "8080:80"`},
		{head + "    ports: ['80']", `services.web.ports[0]: "80": no port is chosen here: want "PUBLISHED:TARGET"`},
		{head + "    ports: ['8000-8001:80']", `services.web.ports[0]: "8000-8001:80": want two ranges of the same length`},
		{head + "    ports: ['0:80']", `services.web.ports[0]: "0:80": want`},
		{head + "    ports: ['80:80/icmp']", `services.web.ports[0]: "80:80/icmp": want`},
		{head + "    ports: ['x:80:80']", `services.web.ports[0]: "x:80:80": want`},
		{head + "    ports: ['fe80::1%eth0:80:80']", `services.web.ports[0]: address fe80::1%eth0: is of one link`},
		{head + "    ports: [{target: 80, published: 80, host_ip: 'fe80::1'}]", `services.web.ports[0]: address fe80::1: is of one link`},
		{head + "    ports: ['224.0.0.1:80:80']", `services.web.ports[0]: address 224.0.0.1: is no host's: leave it out`},
		{head + "    ports: ['1-65535:1-65535']", `services.web.ports[0]: more than 4096 ports`},
		{head + "    ports: ['80:80', '80:81']", `services.web.ports[1]: publish 80:81/tcp: port 80/tcp is published already, as 80:80/tcp`},
		{head + "    ports: ['80:80']\n    deploy: {endpoint_mode: dnsrr}", `services.web.ports[0]: publish 80:80/tcp: a service without an address`},
		{head + "    ports: [{target: 80}]", `services.web.ports[0]: published: missing`},
		{head + "    ports: [{published: 80}]", `services.web.ports[0]: target: missing`},
		{head + "    ports: [{published: 80, target: 80, mode: any}]", `services.web.ports[0].mode: "any": want ingress or host`},
		{head + "    ports: [{published: 80, target: 80, protocol: icmp}]", `services.web.ports[0].protocol: "icmp": want tcp, udp or sctp`},
		{head + "    ports: [{published: 80, target: 99999}]", `services.web.ports[0]: want published: and target:`},
		{head + "    ports: [{publised: 80}]", `services.web.ports[0].publised: not a known key (did you mean published?)`},
		{head + "    ports: {a: b}", `services.web.ports: want a list`},
		{head + "    expose: [http]", `services.web.expose[0]: "http": want PORT`},
		{head + "    expose: [1-65535]", `services.web.expose[0]: more than 4096 ports`},
		{head + "    expose: [80]\n    networks: [nowhere]", `stack.yaml:6: services.web.networks[0]: "nowhere": no such network in networks`},
		{head + "    expose: [80]\n    networks: [app, out]", `services.web.networks[1]: network out: the second one`},
		{head + "    expose: [80]\n    networks: [app, app]", `services.web.networks[1]: "app": is there twice`},
		{"name: shop\nnetworks: {app: {internal: true}}\nservices:\n  web:\n    networks: [app]\n    ports:\n    - 80:80", `stack.yaml:7: services.web.ports[0]: network app: is internal: nothing outside reaches it`},
		{head + "    ports: ['1-32:1-32', '33:33']", `stack.yaml:5: services.web.ports[1]: 33 published ports: a service has up to 32`},
		{head + "    expose: [80]\n    networks: [back]", `services.web.networks[0]: network back: driver bridge: services are of overlay networks`},
		{head + "    networks: {app: {aliases: [www]}}", `services.web.networks.app.aliases[0]: "www": a service has one name`},
		{head + "    networks: {app: {ipv4_address: 10.1.0.1}}", `services.web.networks.app.ipv4_address: is of one container`},
		{head + "    networks: {app: {ipv5_address: 10.1.0.1}}", `services.web.networks.app.ipv5_address: not a known key`},
		{head + "    network_mode: host", `stack.yaml:5: services.web.network_mode: a service is on an overlay network`},
		{head + "    extends: {}", `services.web.extends: want a whole service`},
		{head + "    profiles: [a]", `services.web.profiles: want only services that are to be there`},
		{head + "    port: [a]", `services.web.port: not a known key (did you mean ports?)`},
		{head + "    deploy: {endpoint_mode: any}", `services.web.deploy.endpoint_mode: "any": want vip or dnsrr`},
		{head + "    deploy: {replica: 2}", `services.web.deploy.replica: not a known key (did you mean replicas?)`},
		{head + "    labels: {a: b}\n    deploy: {labels: {a: c}}", `services.web.deploy.labels: a: is there with another value`},
		{head + "    x-sealane: {lb: best}", `services.web.x-sealane.lb: "best": want random, round-robin or hash`},
		{head + "    x-sealane: {affinity: client-ip, lb: random}", `services.web.x-sealane: affinity: client-ip: lb random is something else`},
		{head + "    x-sealane: {publish_local_first: true}", `services.web.x-sealane.publish_local_first: not a known key (did you mean publish-local-first?)`},
		{head + "    x-sealane:\n      lb: hash\n      health: icmp", `stack.yaml:7: services.web.x-sealane.health: "icmp": want tcp, http:/PATH or none`},
		{head + "    x-sealane: {health: http:up}", `stack.yaml:5: services.web.x-sealane: health "http:up": want http:/PATH`},
		{head + "    x-sealane: {health: ''}", `services.web.x-sealane.health: "": want tcp, http:/PATH or none`},
		{head + "    x-sealane: {health: {test: x}}", `services.web.x-sealane.health: want a text`},
		{head + "    x-sealane: {health: tcp, health-interval: 5}", `services.web.x-sealane.health-interval: "5": want a time as 500ms, 2s or 1m`},
		{head + "    x-sealane: {health: tcp, health-timeout: ''}", `services.web.x-sealane.health-timeout: "": want a time`},
		{head + "    x-sealane: {health: tcp, health-interval: 2s, health-timeout: 3s}", `services.web.x-sealane: health-timeout 3s: want more than 0, up to the interval of 2s`},
		{head + "    x-sealane: {health: tcp, health-retries: many}", `services.web.x-sealane.health-retries: "many": want 1 to 100`},
		{head + "    x-sealane: {health: tcp, health-retries: 101}", `services.web.x-sealane.health-retries: "101": want 1 to 100`},
		{head + "    x-sealane: {health: none, health-retries: 2}", `services.web.x-sealane: health none: has no interval, timeout or retries`},
		{head + "    x-sealane: {health-interval: 2s}", `services.web.x-sealane: health: missing: want tcp or http:/PATH`},
		{head + "    expose: [53/udp]\n    x-sealane: {health: tcp}", `services.web: health tcp: the service has no TCP port`},
		{head + "    x-sealane: {healt: tcp}", `services.web.x-sealane.healt: not a known key (did you mean health?)`},
		{head + "    expose: [80]\n    deploy: {endpoint_mode: dnsrr}\n    x-sealane: {lb: hash}", `services.web: lb: hash: endpoint_mode dnsrr`},
		{head + "    expose: ['${NONE}']", `services.web.expose[0]: "${NONE}": variable NONE is not set`},
		{head + "    <<: {<<: {ports: x}}", `services.web.ports: "x": want a list`},
		{head + "    ? [a]\n    : b", `want a plain key`},
		{head + "    []", `stack.yaml:5: services.web: want a mapping`},
		{"name: shop\nservices: &s {web: *s}", `not a known key`},
		{"name: shop\nservices: {web: &s {<<: *s}}", `more than 16 merge keys inside each other`},
		{"name: shop\nservices: {web: {<<: x}}", `want a mapping`},
	} {
		_, err := read(c.text, nil)
		if model.KindOf(err) != model.Invalid || !strings.HasPrefix(fmt.Sprint(err), "stack.yaml:") || !strings.Contains(fmt.Sprint(err), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\n%v, want %s", c.text, err, c.says)
		}
	}
}

// TestIs tells stacks from declarations in the API's own words.
func TestIs(t *testing.T) {
	for text, want := range map[string]bool{
		"networks: [{name: a}]": false, "endpoints: []": false, "networks: {a: }": true, "services: {}": true, "name: x": true, "[]": false,
		`{"networks": {"a": {}}}`: true, "networks: []\nservices: []": false, "a: &a {b: c}\nnetworks: *a": true, "x": false,
	} {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil || Is(doc.Content[0]) != want {
			t.Errorf("%s: %v, %v", text, !want, err)
		}
	}
}

// TestLaughs bounds what a small file can be expanded to.
func TestLaughs(t *testing.T) {
	text := "name: shop\nx-a0: &a0 {lol: x}\n"
	for i := range 20 {
		text += fmt.Sprintf("x-a%d: &a%d {<<: [%s]}\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}
	for _, last := range []int{9, 20} {
		if _, err := read(text+fmt.Sprintf("services: {web: *a%d}", last), nil); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%d: %v", last, err)
		}
	}
	list := "[" + strings.Repeat("*p,", 1000) + "*p]"
	if _, err := read("name: shop\nx-p: &p {target: 80, published: 80}\nx-l: &l "+list+"\nservices:\n"+func() (all string) {
		for i := range 200 {
			all += fmt.Sprintf("  s%d: {ports: *l}\n", i)
		}
		return all
	}(), nil); err == nil {
		t.Error("a long list: taken")
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "EMPTY": "", "_b2": "x"}
	for text, want := range map[string]string{
		"": "", "a$$b": "a$b", "$A": "1", "${A}": "1", "x$A-y": "x1-y", "${A:-2}": "1", "${EMPTY:-2}": "2", "${EMPTY-2}": "", "${EMPTY}": "",
		"${NONE-2}": "2", "${NONE:-}": "", "${A:+3}": "3", "${A+3}": "3", "${EMPTY:+3}": "", "${NONE+3}": "", "${A:?no}": "1", "${_b2}:$A": "x:1", "$$$A": "$1",
		"$": "! want $NAME", "${A": "! ${ without }", "${}": "! want $NAME", "$1": "! want $NAME", "$NONE": "! variable NONE is not set", "${NONE:?is needed}": "! variable NONE: is needed",
		"${A!}": "! want ${NAME}", "${A:}": "! want ${NAME}", "${NONE:-$A}": "! a variable inside a variable", "${NONE:-${A}}": "! a variable inside",
	} {
		got, err := expand(text, vars)
		if says, wrong := strings.CutPrefix(want, "! "); wrong && (err == nil || !strings.Contains(err.Error(), says)) || !wrong && (err != nil || got != want) {
			t.Errorf("%s: %q, %v, want %s", text, got, err, want)
		}
	}
}

// FuzzRead reads any file: it is a declaration, the same each time, or one line that
// begins with where it is wrong.
func FuzzRead(f *testing.F) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(a.Files[0].Data))
	}
	f.Add("name: x\nservices: &s {web: *s}")
	f.Add("name: x\nservices: {web: &s {<<: [*s, *s], ports: ['${A:-1}:1-2/udp', {target: 1, published: 2, host_ip: '::1'}]}}")
	f.Add("name: x\nnetworks: {a: {external: {name: b}, ipam: {config: [{subnet: 10.0.0.0/8, aux_addresses: {a: 10.0.0.1}}]}}}")
	f.Fuzz(func(t *testing.T, text string) {
		defer func() {
			if p := recover(); p != nil && !strings.Contains(fmt.Sprint(p), "yaml") {
				panic(p) // of ours; the parser's the server takes
			}
		}()
		vars := map[string]string{"A": "80"}
		d, err := read(text, vars)
		again, err2 := read(text, vars)
		if diff := cmp.Diff(d, again); diff != "" || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("%v, then %v\n%s", err, err2, diff)
		}
		if err != nil {
			return
		}
		if model.CheckName(d.Stack) != nil || len(made(d)) != len(d.Networks)+len(d.Services) {
			t.Fatalf("%+v", d)
		}
		for _, s := range d.Services {
			for _, p := range s.Publish {
				if q, err := model.ParsePublish(p); err != nil || fmt.Sprint(q) != "["+p+"]" {
					t.Fatalf("%s: %v, %v", p, q, err)
				}
			}
		}
	})
}

// made is what a declaration makes, by name.
func made(d api.Declaration) map[string]bool {
	out := map[string]bool{}
	for _, n := range d.Networks {
		out["network "+n.Name] = true
	}
	for _, s := range d.Services {
		out["service "+strings.ToLower(s.Name)] = true
	}
	return out
}
