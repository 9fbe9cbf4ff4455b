package model

import (
	"strings"
	"testing"
	"time"
)

func TestHealthWish(t *testing.T) {
	have := Health{Path: "/up", Interval: time.Minute, Timeout: 30 * time.Second, Retries: 5}
	for _, c := range []struct {
		what, interval, timeout string
		retries                 int
		have                    *Health
		want                    string // what becomes of it, or the error
	}{
		{"", "", "", 0, nil, "none"},
		{"none", "", "", 0, nil, "none"},
		{"none", "", "", 0, &have, "none"},
		{"tcp", "", "", 0, nil, "tcp 2s 1s 3"},
		{"tcp", "500ms", "", 0, nil, "tcp 500ms 500ms 3"},
		{"http:/a/b?c=%20", "1h", "1m", 100, nil, "http:/a/b?c=%20 1h0m0s 1m0s 100"},
		{"", "", "", 0, &have, "http:/up 1m0s 30s 5"},
		{"tcp", "", "", 0, &have, "tcp 1m0s 30s 5"},
		{"", "10s", "", 1, &have, "http:/up 10s 10s 1"},
		{"", "", "1m", 0, &have, "http:/up 1m0s 1m0s 5"},
		{"", "10s", "", 0, nil, "health: missing"},
		{"none", "10s", "", 0, &have, "health none: has no interval"},
		{"icmp", "", "", 0, nil, `health "icmp": want tcp, http:/PATH or none`},
		{"http:", "", "", 0, nil, `health "http:": want http:/PATH`},
		{"http:tcp", "", "", 0, nil, `health "http:tcp": want http:/PATH`},
		{"http:/a b", "", "", 0, nil, "printable"},
		{"http:/a\nb", "", "", 0, nil, "printable"},
		{"http:/ä", "", "", 0, nil, "printable"},
		{"http:/a#b", "", "", 0, nil, "printable"},
		{"http:/%zz", "", "", 0, nil, "no path of a URL"},
		{"http:/" + strings.Repeat("x", 255), "", "", 0, nil, "up to 255"},
		{"tcp", "99ms", "", 0, nil, "health-interval 99ms: want 100ms to"},
		{"tcp", "61m", "", 0, nil, "health-interval 1h1m0s"},
		{"tcp", "x", "", 0, nil, `health-interval "x": want a time`},
		{"tcp", "0", "", 0, nil, `health-interval "0"`},
		{"tcp", "-1s", "", 0, nil, `health-interval "-1s"`},
		{"tcp", "", "2001ms", 0, nil, "health-timeout 2.001s: want more than 0"},
		{"tcp", "", "0s", 0, nil, `health-timeout "0s"`},
		{"tcp", "", "", -1, nil, "health-retries -1"},
		{"tcp", "", "", 101, nil, "health-retries 101: want 1 to 100"},
	} {
		w, err := ParseHealthWish(c.what, c.interval, c.timeout, c.retries)
		var h *Health
		if err == nil {
			h, err = w.Of(c.have)
		}
		got := "none"
		if err != nil {
			got = err.Error()
		} else if h != nil {
			got = h.String() + " " + h.Interval.String() + " " + h.Timeout.String() + " " + ServicePort{uint16(h.Retries), ""}.String()
			got = strings.TrimSuffix(got, "/")
		}
		if err == nil && got != c.want || err != nil && (!strings.Contains(got, c.want) || strings.ContainsAny(got, "\n")) {
			t.Errorf("%+v: %s", c, got)
		}
		if again, err := WishHealth(h).Of(nil); !SameHealth(again, h) || err != nil && h != nil {
			t.Errorf("%+v: again %+v, %v", c, again, err)
		}
	}
}

func TestServiceHealth(t *testing.T) {
	h := &Health{Interval: time.Second, Timeout: time.Second, Retries: 1}
	s := Service{Name: "web", Ports: []ServicePort{{53, "udp"}, {80, "tcp"}}, Health: h}
	if err := s.Validate(); err != nil || s.HealthPort(&Member{}) != 80 || s.HealthPort(&Member{Port: 8080}) != 8080 {
		t.Errorf("%v", err)
	}
	s.Ports = s.Ports[:1]
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "health tcp: the service has no TCP port") {
		t.Errorf("%v", err)
	}
	at := time.Unix(1, 0)
	for _, c := range []struct {
		state MemberState
		says  HealthState
		want  MemberState
	}{
		{MemberReady, "", MemberReady}, {MemberReady, HealthStarting, MemberStarting}, {MemberReady, HealthDown, MemberUnhealthy},
		{MemberStarting, HealthUp, MemberReady}, {MemberUnhealthy, HealthUp, MemberReady}, {MemberStarting, HealthDown, MemberUnhealthy},
		{MemberDraining, HealthDown, MemberDraining}, {MemberStopped, HealthUp, MemberStopped}, {MemberAway, HealthDown, MemberAway},
	} {
		b := Member{State: c.state}
		if b.Fare(c.says, at); b.State != c.want || b.Health != c.says || b.Since != at {
			t.Errorf("%+v: %+v", c, b)
		}
	}
}
