package model

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// checkNames expects check to accept good and to refuse bad with an error that
// quotes the name and says want.
func checkNames(t *testing.T, check func(string) error, good, bad []string, want string) {
	t.Helper()
	for _, s := range good {
		if err := check(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range bad {
		if err := check(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", s, err, want)
		}
	}
}

func TestCheckName(t *testing.T) {
	checkNames(t, CheckName,
		[]string{"a", "7", "web.1_x-y", strings.Repeat("a", 128)},
		[]string{"", "-a", ".a", "_a", "a b", "a/b", "ä", "a\n", strings.Repeat("a", 129)},
		"starting with a letter or digit, at most 128")
}

func TestCheckIfName(t *testing.T) {
	checkNames(t, CheckIfName,
		[]string{"eth0", "br-1", "eth0.100", "veth@x", "a123456789abcde"},
		[]string{"", ".", "..", "a123456789abcdef", "a b", "a/b", "a:1", "a%d", "a\tb", "ä", "a\x7f", `a"b`, "a*", "a,b", "a;b", "{a", "a}", "#a", `a\b`},
		"interface name")
	if err := CheckIfName("a123456789abcdef"); !strings.Contains(err.Error(), "16 bytes, at most 15") {
		t.Error(err)
	}
	if err := CheckIfName("brü"); !strings.Contains(err.Error(), `character 'ü' is not`) {
		t.Error(err)
	}
}

func TestCheckHostname(t *testing.T) {
	label := strings.Repeat("a", 63)
	checkNames(t, CheckHostname,
		[]string{"web", "WEB", "a.b.c", "_srv._tcp", "7", label + ".x", label + "." + label + "." + label + "." + label[:61]},
		[]string{"", ".", "a.", ".a", "a..b", "-a", "a-", "a b", "a\nb", "ä", label + "a", label + "." + label + "." + label + "." + label[:62]},
		"want DNS labels of letters, digits, '-' and '_'")
}

func TestCheckMAC(t *testing.T) {
	for s, want := range map[string]string{
		"02:42:0a:00:00:02": "02:42:0a:00:00:02",
		"02:42:AC:11:00:0F": "02:42:ac:11:00:0f",
		"02-42-ac-11-00-0f": "02:42:ac:11:00:0f",
		"0242.ac11.000F":    "02:42:ac:11:00:0f",
		"0242ac11000f":      "02:42:ac:11:00:0f",
	} {
		if got, err := CheckMAC(s); got != want || err != nil {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{
		"":                     "want six bytes as 02:42:0a:00:00:02",
		"02:42:0a:00:00":       "want six bytes",
		"02:42:0a:00:00:02:03": "want six bytes",
		"2:42:0a:00:00:02":     "want six bytes",
		" 2:42:0a:00:00:02":    "want six bytes",
		"02:42:0a:00:00:2 ":    "want six bytes",
		"02:42-0a:00-00:02":    "want six bytes",
		"02:42:0a:00:00:0g":    "want six bytes",
		"02:42:0a:00:00:0000":  "want six bytes",
		"02.42.0a.00.00.02":    "want six bytes",
		"0242:0a00:0002":       "want six bytes",
		"0242.0a00.0002.0003":  "want six bytes",
		"024.20a00.0002":       "want six bytes",
		"0242.0a00.00+2":       "want six bytes",
		"02420a00000+":         "want six bytes",
		"0142.0a00.0002":       "is a multicast address",
		"01:42:0a:00:00:02":    "is a multicast address",
		"ff:ff:ff:ff:ff:ff":    "is a multicast address",
		"00:00:00:00:00:00":    "is zero",
	} {
		if _, err := CheckMAC(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

func FuzzCheckMAC(f *testing.F) {
	f.Add("02:42:0a:00:00:02")
	f.Add(" 2:42:0a:00:00:02")
	f.Add("0242.0a00.0002")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := CheckMAC(s)
		known, none := net.ParseMAC(s)
		usable := none == nil && len(known) == 6 && known[0]&1 == 0 && !bytes.Equal(known, make([]byte, 6))
		if usable != (err == nil) || usable && got != known.String() {
			t.Errorf("%q reads as %q, %v; Go's own reader: %v, %v", s, got, err, known, none)
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"web", "eth0.1", "a.b", "a\x00", strings.Repeat("a", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		plain := !strings.ContainsAny(s, " \t\n\x00/:") && s != ""
		for what, err := range map[string]error{"name": CheckName(s), "interface": CheckIfName(s), "host": CheckHostname(s)} {
			if err == nil && !plain {
				t.Errorf("%q passes as a %s", s, what)
			}
		}
	})
}

func TestDerivedMACs(t *testing.T) {
	ids := []ID{"aaaaaaaaaaaa", "aaaaaaaaaaab"}
	seen := map[string]bool{}
	for _, m := range []string{
		MACFor(netip.MustParseAddr("10.0.0.2")), MACFor(netip.MustParseAddr("10.0.0.3")), MACFor(netip.MustParseAddr("fd00::2")),
		MACForID(MACBridge, ids[0]), MACForID(MACVeth, ids[0]), MACForID(MACBridge, ids[1]),
	} {
		if got, err := CheckMAC(m); err != nil || got != m || seen[m] {
			t.Errorf("%s: %s, %v, seen %v", m, got, err, seen[m])
		}
		if b, _ := parseMAC(m); b[0]&2 == 0 {
			t.Errorf("%s: not locally administered", m)
		}
		seen[m] = true
	}
	if m := MACFor(netip.MustParseAddr("10.0.0.2")); m != "02:42:0a:00:00:02" {
		t.Errorf("of 10.0.0.2: %s", m)
	}
	// RFC 4291, appendix A: the universal bit is inverted, ff:fe is put in.
	if a := LinkLocal("34:56:78:9a:bc:de"); a.String() != "fe80::3656:78ff:fe9a:bcde/64" {
		t.Errorf("link-local: %s", a)
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("address 10.0.0.2: taken by sandbox db")
	err := Errorf(Conflict, "network app", "connect web", "%w", cause).WithHint("give one with --ip")
	if got := err.Error(); got != "network app: connect web: address 10.0.0.2: taken by sandbox db (give one with --ip)" {
		t.Error(got)
	}
	if !errors.Is(err, cause) || KindOf(err) != Conflict || KindOf(cause) != Internal {
		t.Error("cause or kind is lost")
	}
	if got := (&Error{Err: cause}).Error(); got != cause.Error() {
		t.Error(got)
	}
	if got := Errorf(Invalid, "network app", "connect pid:x", "pid:x: want a process number").Error(); got != "network app: connect pid:x: want a process number" {
		t.Error(got)
	}
	if got := Errorf(Conflict, "network app", "connect web", "network app: is connected already").Error(); got != "network app: connect web: is connected already" {
		t.Error(got)
	}
	if got := Errorf(Internal, "cluster", "join", "%w", Errorf(Internal, "cluster", "join", "no answer")).Error(); got != "cluster: join: no answer" {
		t.Error(got)
	}
	if got := Errorf(Conflict, "network app", "connect web", "network apple: is full").Error(); got != "network app: connect web: network apple: is full" {
		t.Error(got)
	}
}
