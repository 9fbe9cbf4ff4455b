package wireguard

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// What wireguard-go was told it tells again.
func TestServedTells(t *testing.T) {
	s := &served{tun: &ours{Device: tuntest.NewChannelTUN().TUN(), events: make(chan tun.Event, 1)}}
	s.dev = device.NewDevice(s.tun, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	defer s.close()
	private, other, port, keepalive := NewSecret(), NewSecret(), uint16(0), 25*time.Second
	allowed := []netip.Prefix{netip.MustParsePrefix("10.5.2.0/24"), netip.MustParsePrefix("fd05:0:0:2::/64")}
	none := []netip.Prefix{}
	tell := func(c change) state {
		t.Helper()
		if err := s.change(c); err != nil {
			t.Fatal(err)
		}
		got, err := s.read()
		if err != nil {
			t.Fatal(err)
		}
		got.port = 0 // which it chose
		return got
	}
	a, b := key(1), key(2)
	got := tell(change{Private: &private, port: &port, peers: []peerChange{
		{key: a, Shared: &other, endpoint: netip.MustParseAddrPort("192.0.2.2:51820"), keepalive: &keepalive, allowed: &allowed},
		{key: b, endpoint: netip.MustParseAddrPort("[2001:db8::2]:51820")},
	}})
	want := state{Private: private, peers: map[Public]peerState{
		a: {Shared: other, endpoint: netip.MustParseAddrPort("192.0.2.2:51820"), keepalive: keepalive, allowed: allowed},
		b: {endpoint: netip.MustParseAddrPort("[2001:db8::2]:51820")},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("tells %+v, want %+v", got, want)
	}
	got = tell(change{peers: []peerChange{{key: b, allowed: &allowed}, {key: a, remove: true}}})
	want.peers[b] = peerState{endpoint: want.peers[b].endpoint, allowed: allowed}
	if delete(want.peers, a); !reflect.DeepEqual(got, want) {
		t.Errorf("tells %+v, want %+v", got, want)
	}
	got = tell(change{peers: []peerChange{{key: b, allowed: &none}}})
	want.peers[b] = peerState{endpoint: want.peers[b].endpoint}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("tells %+v, want %+v", got, want)
	}
}

// What makes no sense is an error, which has no values in it.
func TestParseState(t *testing.T) {
	const secret = "188a910a211d45dbf9ab8905a57c5cb6fccd44e0cbc16fa1d6514a26e3fb9a"
	for text, want := range map[string]string{
		"":                            "",
		"errno=0\n":                   "",
		"private_key=" + secret:       "what the device says of private_key makes no sense",
		"listen_port=65536":           "what the device says of listen_port makes no sense",
		"public_key=" + secret + "zz": "what the device says of public_key makes no sense",
		"public_key=" + secret + "00\nendpoint=nowhere":                        "what the device says of endpoint makes no sense",
		"public_key=" + secret + "00\nallowed_ip=10.0.0.0/33":                  "what the device says of allowed_ip makes no sense",
		"public_key=" + secret + "00\npreshared_key=00":                        "what the device says of preshared_key makes no sense",
		"public_key=" + secret + "00\nlast_handshake_time_sec=x":               "what the device says of last_handshake_time_sec makes no sense",
		"public_key=" + secret + "00\npersistent_keepalive_interval=x":         "what the device says of persistent_keepalive_interval makes no sense",
		"public_key=" + secret + "00\nprotocol_version=1\nrx_bytes=7\nnew=1\n": "",
	} {
		_, err := parseState(text)
		if err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestParsePublic(t *testing.T) {
	good := NewSecret().Public()
	if got, err := ParsePublic(good.String()); err != nil || got != good {
		t.Errorf("%v: %v, %v", good, got, err)
	}
	for _, bad := range []string{"", "short", strings.Repeat("A", 43) + "=", good.String() + "=", good.String()[:42] + "=="} {
		if got, err := ParsePublic(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

// A secret is in nothing that prints it.
func TestSecretIsSecret(t *testing.T) {
	s := NewSecret()
	w := Want{Private: s, Shared: s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		for _, v := range []any{s, &s, w, &w, change{Private: &s}, state{Private: s}} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, fmt.Sprintf("%x", s[:])) || strings.Contains(text, fmt.Sprint(s[:])) || strings.Contains(text, fmt.Sprintf("%d, %d", s[0], s[1])) {
				t.Errorf("%s of %T: %s", verb, v, text)
			}
		}
	}
}
