package server_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/api"
)

// FuzzDeclaration sends declarations: whatever they are, the answer is JSON
// that says what would be done or one line that says what is wrong, and it is
// the same twice.
func FuzzDeclaration(f *testing.F) {
	h := newHost(f)
	f.Add(true, declarationYAML)
	f.Add(true, "networks: &n [*n]")
	f.Add(true, "name: shop\nnetworks: {lan: {driver: bridge, external: false}}\nservices: {web: {ports: ['80:80'], networks: [lan]}}")
	f.Add(false, `{"stack":"shop","networks":[{"name":"bridge"}],"services":[{"name":"a","network":"b","publish":["1:1"]}]}`)
	f.Add(true, "? {a: b}\n: c")
	f.Add(true, "0: [:!00 \xef")
	f.Add(true, "networks:\n- <<: {name: x}\n")
	f.Add(true, "endpoints:\n- {network: bridge, sandbox: 'netns:/a', ports: [1-65535:1-65535/udp], mac: 02:42:0a:00:00:02}")
	f.Add(false, `{"networks":[{"name":"a","subnets":[{"prefix":"0.0.0.0/0"},{"prefix":"::/127","gateway":"::","aux":{"":"::1"}}]}]}`)
	f.Add(false, `{"networks":[{"name":"a","subnets":[{"prefix":"::ffff:10.0.0.0/104","range":"10.0.0.0/33"}],"ipv4":null}]}`)
	f.Add(false, `{"Networks":[{"NAME":"a","options":{"mtu":"-1"}}],"endpoints":null}`)
	f.Fuzz(func(t *testing.T, asYAML bool, body string) {
		kind := "application/json"
		if asYAML {
			kind = "application/yaml"
		}
		status, answer := h.do("POST", "/v1/plan", kind, body)
		again, _ := h.do("POST", "/v1/plan", kind, body)
		checkAnswer(t, status, answer)
		if status != again {
			t.Fatalf("%d, then %d", status, again)
		}
	})
}

// FuzzHandlers sends any body to any path.
func FuzzHandlers(f *testing.F) {
	h := newHost(f)
	h.must(f, "POST", "/v1/sandboxes", `{"name":"web","networks":[{"network":"bridge"}]}`)
	for _, c := range calls {
		f.Add(strings.ToUpper(c.method), refRE.ReplaceAllString(c.path, "$1"), c.body)
	}
	f.Add("GET", "/v1/sandboxes/netns:%2Frun%2Fnetns%2Fx", "")
	f.Add("GET", "/v1/sandboxes/%2E%2E", "")
	f.Add("DELETE", "/v1/sandboxes/pid:99999999999999999999", "")
	f.Add("GET", "/v1/networks?filter=label%3Da%3Db&filter=dangling%3Dtrue", "")
	f.Add("GET", "/v1/sandboxes?all=1&filter=publish%3D80-90%2Fudp", "")
	f.Add("POST", "/v1/networks/prune?filter=until%3D24h&filter=label!%3Da", "")
	f.Add("POST", "/v1/networks/%00/connect", `{"sandbox":"netns:/\u0000"}`)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		r, err := http.NewRequest(method, "http://x"+path, strings.NewReader(body))
		if err != nil {
			return // no client could send it
		}
		w := httptest.NewRecorder()
		h.api.ServeHTTP(w, r)
		if r.Method != http.MethodHead {
			checkAnswer(t, w.Code, strings.TrimSpace(w.Body.String()))
		}
	})
}

func checkAnswer(t *testing.T, status int, body string) {
	t.Helper()
	switch {
	case status == http.StatusInternalServerError:
		t.Fatalf("%d %s", status, body)
	case status >= 300:
		e := decodeAs[api.ErrorBody](t, body).Error
		if e.Message == "" || e.Kind == "" || strings.Contains(e.Message, "\n") {
			t.Fatalf("%d %s", status, body)
		}
	case status != http.StatusNoContent:
		decodeAs[any](t, body)
	}
}
