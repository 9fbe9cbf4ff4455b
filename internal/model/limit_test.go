package model

import (
	"math"
	"strings"
	"testing"
)

func TestLimitsValidate(t *testing.T) {
	for _, c := range []struct {
		l   Limits
		err string
	}{
		{Limits{}, ""},
		{Limits{Ingress: Limit{Rate: 1000}}, ""},
		{Limits{Egress: Limit{Rate: 1e15, Burst: 8 * math.MaxUint32}}, ""},
		{Limits{Ingress: Limit{Rate: 999}}, "ingress-rate 999: want 1000 to 1000000000000000 bits per second"},
		{Limits{Egress: Limit{Rate: 1e15 + 1}}, "egress-rate 1000000000000001: want"},
		{Limits{Egress: Limit{Burst: 1}}, "egress-burst: without egress-rate"},
		{Limits{Ingress: Limit{Rate: 1000}, Egress: Limit{Rate: 1000, Burst: 8*math.MaxUint32 + 1}}, "egress-burst 34359738361: want at most 34359738360 bits"},
	} {
		err := c.l.Validate()
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %v, want %q", c.l, err, c.err)
		}
	}
}

func TestLimitsWith(t *testing.T) {
	a := Limits{Ingress: Limit{Rate: 1000, Burst: 2000}}
	b := Limits{Ingress: Limit{Rate: 1000}, Egress: Limit{Rate: 3000}}
	want := Limits{Ingress: Limit{1000, 2000}, Egress: Limit{Rate: 3000}}
	for _, pair := range [][2]Limits{{a, b}, {b, a}, {want, Limits{}}, {Limits{}, want}} {
		if got, err := pair[0].With(pair[1]); got != want || err != nil {
			t.Errorf("%+v with %+v: %+v, %v", pair[0], pair[1], got, err)
		}
	}
	if _, err := a.With(Limits{Ingress: Limit{Burst: 1}}); err == nil || err.Error() != "ingress-burst: is 2000, and 1" {
		t.Errorf("another burst: %v", err)
	}
	if !want.Has(a) || !want.Has(b) || a.Has(b) || want.Has(Limits{Egress: Limit{Rate: 1}}) {
		t.Error("what a limit has")
	}
}

func TestParseBits(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "10000000": 1e7, "10m": 1e7, "10Mbit": 1e7, "8kbit": 8000, "8bit": 8, "1G": 1e9, "2t": 2e12, "18446744073709551615": math.MaxUint64,
	} {
		if got, err := parseBits(text); got != want || err != nil {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "m", "bit", "-1", "1.5m", "10 m", "10mm", "10mbps", "18446744073709551616", "18446745t"} {
		if got, err := parseBits(bad); err == nil {
			t.Errorf("%q: %d", bad, got)
		}
	}
}
