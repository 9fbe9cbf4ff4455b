package server_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/kstate"
)

// spec is the document, as far as the test reads it.
type spec struct {
	OpenAPI    string
	Info       struct{ Version string }
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]map[string]any }
}

type operation struct {
	OperationID string
	Parameters  []struct{ Name, In string }
	RequestBody *struct{ Content map[string]media }
	Responses   map[string]struct{ Content map[string]media }
}

type media struct{ Schema map[string]any }

// calls make every operation of the API succeed once, in this order.
var calls = []struct{ method, path, body string }{
	{"get", "/v1/version", ""},
	{"get", "/v1/openapi.json", ""},
	{"post", "/v1/networks", `{"name":"app","driver":"bridge","subnets":[{"prefix":"10.9.0.0/24","gateway":"10.9.0.1","range":"10.9.0.128/25","aux":{"a":"10.9.0.5"}}],"ipv4":true,"ipv6":true,"internal":false,"options":{"icc":"false"},"labels":{"a":"b"}}`},
	{"get", "/v1/networks/{ref=app}", ""},
	{"post", "/v1/sandboxes", `{"name":"db","networks":[{"network":"bridge"}]}`},
	{"post", "/v1/sandboxes", `{"name":"cache","networks":[{"network":"bridge"}]}`},
	{"post", "/v1/sandboxes", `{"name":"web","mode":"own","networks":[{"network":"bridge","mac":"02:42:0a:00:00:09","ifname":"net0","aliases":["w"],"gwPriority":3,"linkLocalIPs":["169.254.1.1"],"sysctls":["net.ipv4.conf.IFNAME.log_martians=1"],"options":{"ifname":"net0"},"links":["db"]}],"links":["cache:c"],"ports":["80","published=8000,target=8000,from=192.0.2.0/24"],"publishAll":true,"expose":["81/udp"],"hostname":"w","domainname":"example.org","dns":{"servers":["192.0.2.1"],"search":["example.org"],"options":["ndots:2"]},"hosts":[{"name":"h","address":"192.0.2.2"},{"name":"g","address":"host-gateway"}],"sysctls":{"net.core.somaxconn":"9"},"command":["a","b"],"process":{"pid":3,"start":4}}`},
	{"post", "/v1/networks/{ref=app}/connect", `{"sandbox":"web","ip":"10.9.0.7","ports":["90:90"],"ingressRate":1000000,"egressRate":2000000,"egressBurst":80000}`},
	{"patch", "/v1/networks/{ref=app}", `{"options":{"icc":""},"labels":{"c":"d"},"removeLabels":["a"]}`},
	{"get", "/v1/networks?filter=label%3Dc", ""},
	{"get", "/v1/explain?from=web&to=192.0.2.77", ""},
	{"get", "/v1/explain?from=host&to=web", ""},
	{"get", "/v1/doctor", ""},
	{"post", "/v1/trace", `{"from":"host","to":"web:80","timeout":500}`},
	{"get", "/v1/sandboxes", ""},
	{"get", "/v1/sandboxes/{ref=web}", ""},
	{"post", "/v1/sandboxes/{ref=web}/ports", `{"ports":["127.0.0.1:91:91"]}`},
	{"delete", "/v1/sandboxes/{ref=web}/ports", `{"ports":["91"]}`},
	{"put", "/v1/sandboxes/{ref=web}/process", `{"pid":5,"start":6}`},
	{"post", "/v1/networks/{ref=app}/disconnect", `{"sandbox":"web"}`},
	{"post", "/v1/networks/{ref=app}/attach", `{"container":"c1","netns":"/run/netns/x","resolver":true,"ifname":"net1","ports":["92:92"]}`},
	{"get", "/v1/sandboxes/{ref=c1}/diff", ""},
	{"post", "/v1/networks/{ref=app}/detach", `{"container":"c1","ifname":"net1"}`},
	{"put", "/v1/sandboxes/{ref=web}/exit", `{"code":143,"signal":"terminated"}`},
	{"get", "/v1/sandboxes?all=true", ""},
	{"delete", "/v1/sandboxes/{ref=web}?force=true", ""},
	{"delete", "/v1/networks/{ref=app}", ""},
	{"post", "/v1/plan", `{"networks":[{"name":"d"}],"endpoints":[{"network":"d","sandbox":"netns:/run/netns/x"}]}`},
	{"post", "/v1/apply", `{"networks":[{"name":"d"}],"endpoints":[{"network":"d","sandbox":"netns:/run/netns/x","ports":["80"]}]}`},
	{"post", "/v1/networks/prune", ""},
	{"post", "/v1/pipework", `{"device":"br1","container":"netns:/run/netns/x","ip":"192.0.2.9/24","ifname":"eth9","command":"br1 x 192.0.2.9/24","options":{"gateway":"192.0.2.1","route":"198.51.100.0/24=192.0.2.1","mtu":"1400","hostif":"x9"}}`},
	{"post", "/v1/pipework/run", `{"container":"netns:/run/netns/x","args":["ip","route","add","203.0.113.0/24","dev","eth9"]}`},
	{"get", "/v1/pipework", ""},
	{"delete", "/v1/pipework", `{"device":"br1","container":"netns:/run/netns/x","ifname":"eth9"}`},
	{"post", "/v1/uplinks", `{"nic":"eth9","bridge":"br9","timeout":1000}`},
	{"get", "/v1/uplinks", ""},
	{"post", "/v1/uplinks/{ref=eth9}/detach", `{"timeout":1000}`},
	{"post", "/v1/cluster/init", `{"address":"192.0.2.1"}`},
	{"post", "/v1/cluster/join", `{"token":"t","member":"192.0.2.2:2378","address":"192.0.2.1"}`},
	{"get", "/v1/cluster", ""},
	{"post", "/v1/cluster/token", `{"rotate":true}`},
	{"get", "/v1/cluster/networks/{ref=pods}", ""},
	{"get", "/v1/nodes", ""},
	{"get", "/v1/nodes/{ref=a}", ""},
	{"delete", "/v1/nodes/{ref=b}", ""},
	{"post", "/v1/cluster/leave", `{"force":true}`},
	{"get", "/v1/diff", ""},
	{"get", "/v1/events?since=1h&until=0s&filter=type=network", ""},
	{"post", "/v1/networks", `{"name":"wide","driver":"overlay","subnets":[{"prefix":"10.8.0.0/24"}]}`},
	{"post", "/v1/services", `{"name":"web","network":"wide","ports":["80","53/udp"],"mode":"vip","lb":"hash","labels":{"a":"b"}}`},
	{"post", "/v1/sandboxes", `{"name":"back","networks":[{"network":"wide","options":{"service":"web:8080*2,other"}}]}`},
	{"get", "/v1/sandboxes/{ref=back}", ""},
	{"patch", "/v1/services/{ref=web}", `{"ports":["81"],"lb":"random"}`},
	{"get", "/v1/services", ""},
	{"get", "/v1/services/{ref=web}", ""},
	{"get", "/v1/networks/{ref=wide}", ""},
	{"delete", "/v1/services/{ref=web}", ""},
	{"post", "/v1/plan?stack=shop", `{"networks":[{"name":"mall","driver":"bridge"}],"stack":"mall","external":["wide"],"services":[{"name":"till","network":"wide","ports":["80"]}]}`},
	{"post", "/v1/apply", `{"networks":[{"name":"mall","driver":"bridge"}],"stack":"mall","external":["wide"],"services":[{"name":"till","network":"wide","ports":["80"]}]}`},
	{"get", "/v1/stacks", ""},
	{"delete", "/v1/stacks/{ref=mall}", ""},
}

var refRE = regexp.MustCompile(`\{ref=(\w+)\}`)

// TestOpenAPI holds the document against the handlers: every operation in it
// answers as its schema says, takes what its schema says, and no other route
// answers.
func TestOpenAPI(t *testing.T) {
	h := clustered(t)
	h.kernel.Foreign(kstate.NetNS{NS: kstate.NS{Path: "/run/netns/x", Inode: 77}}, kstate.Link{Name: "eth9", Up: true, Other: true})
	doc := decodeAs[spec](t, h.must(t, "GET", "/v1/openapi.json", ""))
	if doc.OpenAPI != "3.1.0" || doc.Info.Version != "1.2.3" {
		t.Errorf("openapi %s, version %s", doc.OpenAPI, doc.Info.Version)
	}
	called := map[string]bool{}
	for _, c := range calls {
		path, query, _ := strings.Cut(refRE.ReplaceAllString(c.path, "{ref}"), "?")
		op, ok := doc.Paths[path][c.method]
		if !ok {
			t.Errorf("%s %s is not in the document", c.method, path)
			continue
		}
		called[c.method+" "+path] = true
		if name, _, _ := strings.Cut(query, "="); name != "" && !slices.ContainsFunc(op.Parameters, func(p struct{ Name, In string }) bool { return p.Name == name && p.In == "query" }) {
			t.Errorf("%s %s: parameter %s is not in the document", c.method, path, name)
		}
		if (op.RequestBody != nil) != (c.body != "") {
			t.Errorf("%s %s: body %q, in the document: %v", c.method, path, c.body, op.RequestBody != nil)
		}
		if op.RequestBody != nil {
			doc.check(t, c.method+" "+path+": request", op.RequestBody.Content["application/json"].Schema, parse(t, c.body))
		}
		status, body := h.do(strings.ToUpper(c.method), refRE.ReplaceAllString(c.path, "$1"), "application/json", c.body)
		answer, ok := op.Responses[fmt.Sprint(status)]
		switch {
		case !ok:
			t.Errorf("%s %s: answer %d is not in the document: %s", c.method, c.path, status, body)
		case status == http.StatusNoContent:
			if body != "" || answer.Content != nil {
				t.Errorf("%s %s: a body with 204: %s", c.method, c.path, body)
			}
		default:
			doc.check(t, c.method+" "+path, answer.Content["application/json"].Schema, parse(t, body))
		}
		bad := op.Responses["default"].Content["application/json"].Schema
		_, body = h.do(strings.ToUpper(c.method), "/v1/networks/nope/connect", "", "{")
		doc.check(t, "error", bad, parse(t, body))
	}
	for path, item := range doc.Paths {
		for method := range item {
			if !called[method+" "+path] {
				t.Errorf("%s %s is in the document and was never called", method, path)
			}
		}
		for _, m := range []string{"GET", "POST", "PUT", "DELETE", "PATCH"} {
			_, known := item[strings.ToLower(m)]
			status, body := h.do(m, strings.ReplaceAll(path, "{ref}", "none-such"), "", "")
			overlaps := path == "/v1/networks/prune" // {ref} takes it too
			if !known && !overlaps && status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s answers %d and is not in the document: %s", m, path, status, body)
			}
		}
	}
}

func parse(t *testing.T, text string) any { return decodeAs[any](t, text) }

// check validates v against a JSON schema as the document uses them. Unknown
// properties are errors even where the schema is open: the server would answer
// with more than it documents.
func (d spec) check(t *testing.T, at string, schema map[string]any, v any) {
	t.Helper()
	if schema == nil {
		t.Errorf("%s: no schema", at)
		return
	}
	if ref, ok := schema["$ref"].(string); ok {
		d.check(t, at, d.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")], v)
		return
	}
	switch schema["type"] {
	case "object":
		d.checkObject(t, at, schema, v)
	case "array":
		list, ok := v.([]any)
		if !ok {
			t.Errorf("%s: %v is not an array", at, v)
		}
		for i, x := range list {
			d.check(t, fmt.Sprintf("%s[%d]", at, i), schema["items"].(map[string]any), x)
		}
	case "string":
		s, ok := v.(string)
		if !ok {
			t.Errorf("%s: %v is not a string", at, v)
		}
		if _, err := time.Parse(time.RFC3339Nano, s); schema["format"] == "date-time" && err != nil {
			t.Errorf("%s: %v", at, err)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			t.Errorf("%s: %v is not a boolean", at, v)
		}
	case "integer":
		if n, ok := v.(float64); !ok || n != math.Trunc(n) {
			t.Errorf("%s: %v is not an integer", at, v)
		} else if hi, bounded := schema["maximum"].(float64); bounded && n > hi {
			t.Errorf("%s: %v is more than %v", at, v, hi)
		}
	default:
		t.Errorf("%s: schema %v", at, schema)
	}
}

func (d spec) checkObject(t *testing.T, at string, schema map[string]any, v any) {
	t.Helper()
	object, ok := v.(map[string]any)
	if !ok {
		t.Errorf("%s: %v is not an object", at, v)
		return
	}
	properties, typed := schema["properties"].(map[string]any)
	values, isMap := schema["additionalProperties"].(map[string]any)
	for k, x := range object {
		p, known := properties[k].(map[string]any)
		switch {
		case known:
			d.check(t, at+"."+k, p, x)
		case isMap:
			d.check(t, at+"."+k, values, x)
		case typed:
			t.Errorf("%s.%s: not in the schema", at, k)
		}
	}
	required, _ := schema["required"].([]any)
	for _, k := range required {
		if _, ok := object[k.(string)]; !ok {
			t.Errorf("%s.%s: required and missing", at, k)
		}
	}
}

// TestOperationIDs are what generated clients call their functions.
func TestOperationIDs(t *testing.T) {
	doc := decodeAs[spec](t, newHost(t).must(t, "GET", "/v1/openapi.json", ""))
	seen := map[string]string{}
	for path, item := range doc.Paths {
		for method, op := range item {
			if by := seen[op.OperationID]; by != "" || op.OperationID == "" {
				t.Errorf("%s %s: operation %q is also %s", method, path, op.OperationID, by)
			}
			seen[op.OperationID] = method + " " + path
		}
	}
}

// TestRequestsAreClosed: a request refuses what it does not know, and says so
// in the document.
func TestRequestsAreClosed(t *testing.T) {
	doc := decodeAs[spec](t, newHost(t).must(t, "GET", "/v1/openapi.json", ""))
	for _, name := range []string{"NetworkSpec", "SubnetSpec", "SandboxSpec", "EndpointSpec", "Connect", "Declaration", "EndpointDeclaration"} {
		if closed, ok := doc.Components.Schemas[name]["additionalProperties"].(bool); !ok || closed {
			t.Errorf("%s: %v", name, doc.Components.Schemas[name])
		}
	}
	if b, _ := json.Marshal(api.Connect{}); string(b) != `{"sandbox":""}` {
		t.Errorf("an empty request: %s", b)
	}
}
