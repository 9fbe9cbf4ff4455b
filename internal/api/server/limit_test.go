package server_test

import (
	"strings"
	"testing"
)

// Limits may come in fields, in options, or in both.
func TestLimits(t *testing.T) {
	h := newHost(t)
	h.must(t, "POST", "/v1/sandboxes", `{"name":"web","networks":[{"network":"bridge","ingressRate":10000000,"options":{"ingress-rate":"10m","egress-rate":"1gbit","egress-burst":"80m"}}]}`)
	got := h.must(t, "GET", "/v1/sandboxes/web", "")
	for _, want := range []string{`"ingressRate":10000000`, `"egressRate":1000000000`, `"egressBurst":80000000`} {
		if !strings.Contains(strings.ReplaceAll(got, " ", ""), want) {
			t.Errorf("%s: lacks %s", got, want)
		}
	}
	if strings.Contains(got, "ingressBurst") {
		t.Errorf("%s: says what was not given", got)
	}
	if dump := h.kernel.Dump(); strings.Count(dump, "\nshaper ") != 2 || !strings.Contains(dump, "rate 125000000 burst 10000000 ") {
		t.Errorf("the kernel has\n%s", dump)
	}
	h.must(t, "POST", "/v1/sandboxes", `{"name":"free","networks":[{"network":"bridge","ingressRate":0}]}`)
	if got := h.must(t, "GET", "/v1/sandboxes/free", ""); strings.Contains(got, "gressRate") {
		t.Errorf("%s: has limits", got)
	}
}
