package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/api"
)

func TestRefusals(t *testing.T) {
	h := newHost(t)
	h.must(t, "POST", "/v1/sandboxes", `{"name":"idle"}`)
	const js, yml = "application/json", "application/yaml"
	for _, c := range []struct {
		method, path, contentType, body string
		status                          int
		kind, message                   string // what the message contains
	}{
		{"GET", "/", "", "", 404, "not-found", "path /: no such route (GET /v1/openapi.json lists the routes)"},
		{"GET", "/v1/networks/", "", "", 404, "not-found", "no such route"},
		{"GET", "/v1/../v1/networks", "", "", 404, "not-found", "no such route"},
		{"GET", "/v1/networks/nope", "", "", 404, "not-found", "network nope: find: no such network"},
		{"PATCH", "/v1/networks", "", "", 405, "invalid", "path /v1/networks: method PATCH: want GET or POST"},
		{"GET", "/v1/networks/x/connect", "", "", 405, "invalid", "want POST"},
		{"POST", "/v1/networks", "text/plain", "{}", 415, "invalid", `request body: content type "text/plain": want application/json`},
		{"POST", "/v1/networks", yml, "name: x", 415, "invalid", "want application/json"},
		{"POST", "/v1/apply", "text/html", "", 415, "invalid", "want application/json or application/yaml"},
		{"POST", "/v1/apply", "text/", "", 415, "invalid", `content type "text/"`},
		{"POST", "/v1/networks", js, "", 400, "invalid", "request body: empty: want a JSON object"},
		{"POST", "/v1/networks", js, "null", 400, "invalid", "empty"},
		{"POST", "/v1/networks", js, "[]", 400, "invalid", "request body: want an object"},
		{"POST", "/v1/networks", js, `{"name":"x"`, 400, "invalid", "cut off"},
		{"POST", "/v1/networks", js, `{"name":x}`, 400, "invalid", "not JSON at byte 9"},
		{"POST", "/v1/networks", js, `{"name":"x"} {}`, 400, "invalid", "something follows"},
		{"POST", "/v1/networks", js, `{"nmae":"x"}`, 400, "invalid", "request body: nmae: not a known field (known: name, driver, subnets, ipv4, ipv6, internal, options, labels)"},
		{"POST", "/v1/networks", js, `{"subnets":[{},{"gw":1}]}`, 400, "invalid", "subnets[1].gw: not a known field (known: prefix, gateway, range, aux)"},
		{"POST", "/v1/networks", js, `{"options":{"mtu":1400}}`, 400, "invalid", "options.mtu: want a string"},
		{"POST", "/v1/networks", js, `{"internal":"yes"}`, 400, "invalid", "internal: want true or false"},
		{"POST", "/v1/networks", js, `{"name":"x","subnets":[{"prefix":"10.0.0"}]}`, 400, "invalid", `network x: create: subnet "10.0.0": want ADDRESS/BITS`},
		{"POST", "/v1/networks", js, `{"name":"x","subnets":[{"prefix":"10.0.0.0/8","aux":{"a":"b"}}]}`, 400, "invalid", `aux-address a "b": want an IP address`},
		{"POST", "/v1/networks", js, `{"name":"host"}`, 409, "conflict", "the name is built in"},
		{"DELETE", "/v1/networks/bridge", "", "", 403, "denied", "network bridge: remove: is built in and stays"},
		{"POST", "/v1/networks/bridge/connect", js, `{}`, 400, "invalid", "sandbox: missing"},
		{"POST", "/v1/networks/bridge/connect", js, `{"sandbox":"idle","egressBurst":1000}`, 400, "invalid", "network bridge: connect idle: egress-burst: without egress-rate"},
		{"POST", "/v1/networks/bridge/connect", js, `{"sandbox":"idle","ingressRate":1000,"options":{"ingress-rate":"2k"}}`, 400, "invalid", "network bridge: connect idle: ingress-rate: is 1000, and 2000"},
		{"POST", "/v1/networks/bridge/connect", js, `{"sandbox":"idle","ingressRate":-1}`, 400, "invalid", "ingressRate"},
		{"POST", "/v1/networks/bridge/connect", js, `{"sandbox":"idle","ip":"fd00::1"}`, 400, "invalid", "ip fd00::1: is an address of the other family"},
		{"POST", "/v1/networks/bridge/connect", js, `{"sandbox":"idle","ip":"fe80::1%eth0"}`, 400, "invalid", "want an address without a device, fe80::1"},
		{"POST", "/v1/networks/bridge/connect", js, `{"sandbox":"idle","ports":["x"]}`, 400, "invalid", `network bridge: connect idle: port "x"`},
		{"GET", "/v1/sandboxes?all=perhaps", "", "", 400, "invalid", `query: all="perhaps": want true or false`},
		{"POST", "/v1/sandboxes", js, `{"mode":"odd"}`, 400, "invalid", `sandbox (new): create: mode "odd": want own, host, shared or other`},
		{"POST", "/v1/sandboxes", js, `{"mode":"shared"}`, 400, "invalid", "mode shared needs one"},
		{"POST", "/v1/sandboxes", js, `{"mode":"other","netns":"/run/../etc"}`, 400, "invalid", "want a clean absolute path"},
		{"POST", "/v1/sandboxes", js, `{"expose":["1:80"]}`, 400, "invalid", "expose 1:80/tcp: want PORT"},
		{"POST", "/v1/sandboxes", js, `{"sysctls":{"kernel.panic":"1"}}`, 400, "invalid", `sysctl "kernel.panic": want a setting of the network`},
		{"POST", "/v1/sandboxes", js, `{"sysctls":{"net.../x":"1"}}`, 400, "invalid", "want a setting of the network"},
		{"POST", "/v1/sandboxes", js, `{"sysctls":{"net.a":"1\n2"}}`, 400, "invalid", "want one line"},
		{"POST", "/v1/sandboxes", js, `{"dns":{"search":["a\nb"]}}`, 400, "invalid", "dns-search"},
		{"POST", "/v1/sandboxes", js, `{"dns":{"options":["a b"]}}`, 400, "invalid", `dns-option "a b": want one word`},
		{"POST", "/v1/sandboxes", js, `{"hosts":[{"name":"a b","address":"::1"}]}`, 400, "invalid", "add-host"},
		{"POST", "/v1/sandboxes", js, `{"process":{"pid":0}}`, 400, "invalid", "pid 0"},
		{"POST", "/v1/networks/bridge/attach", js, `{"netns":"/run/netns/x"}`, 400, "invalid", `container: name ""`},
		{"POST", "/v1/networks/bridge/attach", js, `{"container":"a b","netns":"/run/netns/x"}`, 400, "invalid", `container: name "a b"`},
		{"POST", "/v1/networks/bridge/attach", js, `{"container":"c1","netns":"x"}`, 400, "invalid", `netns "x": want an absolute path`},
		{"POST", "/v1/networks/bridge/attach", js, `{"container":"c1","netns":"/run/netns/none"}`, 404, "not-found", "not a network namespace"},
		{"POST", "/v1/networks/bridge/detach", js, `{}`, 400, "invalid", "container: missing"},
		{"POST", "/v1/networks/bridge/detach", js, `{"container":"c1"}`, 404, "not-found", "no such endpoint"},
		{"GET", "/v1/sandboxes/cni:c1/diff", "", "", 404, "not-found", "sandbox cni:c1"},
		{"PUT", "/v1/sandboxes/idle/process", js, `{"pid":-1}`, 400, "invalid", "pid -1"},
		{"PUT", "/v1/sandboxes/idle/process", js, `{"pid":1,"start":-1}`, 400, "invalid", "start: want a number, at least 0"},
		{"PUT", "/v1/sandboxes/idle/exit", js, `{"code":256}`, 400, "invalid", "code 256: want 0 to 255"},
		{"POST", "/v1/sandboxes/idle/ports", js, `{"ports":[]}`, 400, "invalid", "ports: missing"},
		{"DELETE", "/v1/sandboxes/idle/ports", "", "", 400, "invalid", "ports: missing"},
		{"POST", "/v1/apply", yml, "", 400, "invalid", "empty: want a YAML mapping"},
		{"POST", "/v1/apply", yml, "- a", 400, "invalid", "line 1: want an object"},
		{"POST", "/v1/apply", yml, "a: [", 400, "invalid", "not YAML: "},
		{"POST", "/v1/apply", yml, "networks:\n- nmae: x", 400, "invalid", "line 2: networks[0].nmae: not a known field (known: name, driver,"},
		{"POST", "/v1/apply", yml, "networks: 1", 400, "invalid", "request body: line 1: networks: want a list"},
		{"POST", "/v1/apply?file=a.yaml", yml, "networks: 1", 400, "invalid", "a.yaml: line 1: networks: want a list"},
		{"POST", "/v1/apply?file=a.yaml", yml, "name: x\nservices: [", 400, "invalid", "a.yaml: not YAML: line 2:"},
		{"POST", "/v1/apply", yml, "name: x\nservices:\n  web:\n    networks: [n]\n   ports: []\nx-a: 1\n", 400, "invalid", "not YAML: line 5: did not find expected key"},
		{"POST", "/v1/apply", yml, "name: x\nservices:\n  web: {\n    networks: [n],\n    ports: ['80:80'\n", 400, "invalid", "not YAML: line 5: did not find expected ',' or ']'"},
		{"POST", "/v1/apply", yml, "a: b: c\nd: e", 400, "invalid", "not YAML: line 1: mapping values are not allowed"},
		{"POST", "/v1/apply", yml, "a: 1\nb:\n- c\n- *d\n- e", 400, "invalid", "not YAML: line 4: unknown anchor 'd' referenced"},
		{"POST", "/v1/apply", yml, "a: [\n1\n]\nb:\n  - 1\n  c: 2\nd: 3\n", 400, "invalid", "not YAML: line 6: did not find expected '-' indicator"},
		{"POST", "/v1/apply", yml, "a: 1\nb: 'c\nd: 2\n", 400, "invalid", "not YAML: line 2: found unexpected end of stream"},
		{"POST", "/v1/apply", yml, "networks: []\n---\na: b: c", 400, "invalid", "not YAML: line 3: mapping values"},
		{"POST", "/v1/plan?file=a.yaml", yml, "name: x\nservices: 1", 400, "invalid", `a.yaml:2: services: "1": want a mapping`},
		{"POST", "/v1/plan?stack=y&variable=P=8", yml, "name: x\nnetworks: {n: {external: true}}\nservices: {a: {networks: [n], ports: ['${P}:$P']}}", 404, "not-found", "network n: apply: no such network (it is external to stack y: make it first)"},
		{"POST", "/v1/apply", yml, "networks:\n- name: x\n- subnets: []", 400, "invalid", "networks[1]: apply: name: missing"},
		{"POST", "/v1/apply", yml, "endpoints:\n- network: app", 400, "invalid", "endpoints[0]: apply: sandbox: missing"},
		{"POST", "/v1/apply", yml, "endpoints:\n- sandbox: web", 400, "invalid", "endpoints[0]: apply: network: missing"},
		{"POST", "/v1/plan", js, `{"services":[{"name":"a"}]}`, 400, "invalid", "declaration: apply: services and external: of a stack only: want stack: NAME"},
		{"POST", "/v1/plan", js, `{"stack":"x","endpoints":[{}]}`, 400, "invalid", "stack x: apply: endpoints: a stack has none"},
		{"POST", "/v1/plan", js, `{"stack":"a b"}`, 400, "invalid", "stack a b: apply: "},
		{"POST", "/v1/plan", js, `{"stack":"x","services":[{"name":"a","network":"n","ports":["http"]}]}`, 400, "invalid", `service a: apply: port "http": want PORT`},
		{"POST", "/v1/plan", js, `{"stack":"x","networks":[{"name":"bridge"}]}`, 409, "conflict", "network bridge: apply: is there, and of no stack"},
		{"DELETE", "/v1/stacks/x", "", "", 404, "not-found", "stack x: remove: no such stack"},
		{"POST", "/v1/apply", yml, "networks:\n- name: [x]", 400, "invalid", "line 2: networks[0].name: want a string"},
		{"POST", "/v1/apply", yml, "networks: []\nnetworks: []", 400, "invalid", "line 2: networks: is there twice"},
		{"POST", "/v1/apply", yml, "networks: []\n---\nnetworks: []", 400, "invalid", "line 2: a second YAML document: want one"},
		{"POST", "/v1/apply", yml, "endpoints: [{network: bridge, sandbox: nope}]", 404, "not-found", "no such sandbox"},
	} {
		status, body := h.do(c.method, c.path, c.contentType, c.body)
		var e api.ErrorBody
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s %s %s: %d %q: %v", c.method, c.path, c.body, status, body, err)
			continue
		}
		if status != c.status || string(e.Error.Kind) != c.kind || !strings.Contains(e.Error.Message, c.message) || strings.Contains(e.Error.Message, "\n") {
			t.Errorf("%s %s %s\n got %d %s: %s\nwant %d %s: …%s…", c.method, c.path, c.body, status, e.Error.Kind, e.Error.Message, c.status, c.kind, c.message)
		}
	}
}

func TestLongBody(t *testing.T) {
	h := newHost(t)
	body := `{"name":"` + strings.Repeat("x", api.MaxBody) + `"}`
	if status, got := h.do("POST", "/v1/networks", "application/json", body); status != http.StatusRequestEntityTooLarge || !strings.Contains(got, "longer than 8 MiB") {
		t.Errorf("%d %.200s", status, got)
	}
}

// TestHostileTexts: what no command line can say, a NUL or megabytes, in each text of a
// request: one short line, and nothing is changed.
func TestHostileTexts(t *testing.T) {
	h := newHost(t)
	h.must(t, "POST", "/v1/sandboxes", `{"name":"idle"}`)
	everything := func() string {
		return h.must(t, "GET", "/v1/networks", "") + h.must(t, "GET", "/v1/sandboxes?all=true", "") + h.kernel.Dump()
	}
	before := everything()
	for _, c := range []struct{ path, body string }{
		{"/v1/networks", `{"name":@}`},
		{"/v1/networks", `{"name":"n","driver":@}`},
		{"/v1/networks", `{"name":"n","subnets":[{"prefix":@}]}`},
		{"/v1/networks", `{"name":"n","subnets":[{"prefix":"10.7.0.0/24","gateway":@}]}`},
		{"/v1/networks", `{"name":"n","subnets":[{"prefix":"10.7.0.0/24","range":@}]}`},
		{"/v1/networks", `{"name":"n","subnets":[{"prefix":"10.7.0.0/24","aux":{@:"10.7.0.9"}}]}`},
		{"/v1/networks", `{"name":"n","options":{@:"x"}}`},
		{"/v1/networks", `{"name":"n","options":{"name":@}}`},
		{"/v1/networks", `{"name":"n","options":{"trusted-interfaces":@}}`},
		{"/v1/networks", `{"name":"n","labels":{@:"x"}}`},
		{"/v1/networks", `{"name":"n","labels":{"x":@}}`},
		{"/v1/sandboxes", `{"name":@}`},
		{"/v1/sandboxes", `{"hostname":@}`},
		{"/v1/sandboxes", `{"netns":@}`},
		{"/v1/sandboxes", `{"sysctls":{@:"1"}}`},
		{"/v1/sandboxes", `{"sysctls":{"net.ipv4.ip_forward":@}}`},
		{"/v1/sandboxes", `{"dns":{"search":[@]}}`},
		{"/v1/sandboxes", `{"dns":{"options":[@]}}`},
		{"/v1/sandboxes", `{"expose":[@]}`},
		{"/v1/sandboxes", `{"networks":[{"network":@}]}`},
		{"/v1/sandboxes", `{"networks":[{"network":"bridge","ifname":@}]}`},
		{"/v1/sandboxes", `{"networks":[{"network":"bridge","aliases":[@]}]}`},
		{"/v1/sandboxes", `{"networks":[{"network":"bridge","mac":@}]}`},
		{"/v1/networks/bridge/connect", `{"sandbox":@}`},
		{"/v1/networks/bridge/connect", `{"sandbox":"idle","ip":@}`},
		{"/v1/networks/bridge/connect", `{"sandbox":"idle","ports":[@]}`},
	} {
		for _, text := range []string{`a\u0000b`, strings.Repeat("x", 1<<20), strings.Repeat("1.", 1<<19)} {
			status, got := h.do("POST", c.path, "application/json", strings.Replace(c.body, "@", `"`+text+`"`, 1))
			if status < 400 || status >= 500 || len(got) > 4096 || strings.ContainsAny(got, "\n\x00") || strings.Contains(got, "not a known field") && !strings.Contains(c.body, "{@") {
				t.Errorf("%s %s with %.10q: %d %.300s", c.path, c.body, text, status, got)
			}
		}
	}
	if after := everything(); after != before {
		t.Errorf("there is\n%.3000s\nand was\n%.3000s", after, before)
	}
}

// TestAliases expands what YAML aliases say, but not without end.
func TestAliases(t *testing.T) {
	h := newHost(t)
	status, body := h.do("POST", "/v1/plan", "application/yaml", "networks:\n- &n {name: a, labels: &l {a: b}}\n- {name: b, labels: *l}\n")
	if status != http.StatusOK {
		t.Errorf("an alias: %d %s", status, body)
	}
	var b strings.Builder
	b.WriteString("networks:\n- &n {name: a, labels: {" + strings.Repeat("a", 10))
	for i := range 2000 {
		b.WriteString(": x, k" + strings.Repeat("i", i%50) + string(rune('a'+i%26)) + strings.Repeat("j", i/50))
	}
	b.WriteString(": x}}\n" + strings.Repeat("- *n\n", 2000))
	if status, body := h.do("POST", "/v1/plan", "application/yaml", b.String()); status != http.StatusBadRequest || !strings.Contains(body, "more than") {
		t.Errorf("a bomb: %d %.300s", status, body)
	}
	if status, body := h.do("POST", "/v1/plan", "application/yaml", "networks: &n [*n]"); status != http.StatusBadRequest {
		t.Errorf("an alias in itself: %d %s", status, body)
	}
}
