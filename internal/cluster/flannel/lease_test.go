package flannel

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func subnet(v4, v6 string) Subnet {
	var s Subnet
	if v4 != "" {
		s.V4 = netip.MustParsePrefix(v4)
	}
	if v6 != "" {
		s.V6 = netip.MustParsePrefix(v6)
	}
	return s
}

func TestKeys(t *testing.T) {
	for key, want := range map[string]Subnet{
		"10.5.34.0-24":                      subnet("10.5.34.0/24", ""),
		"10.10.51.0-24&fd10:10:0:3b::-64":   subnet("10.10.51.0/24", "fd10:10:0:3b::/64"),
		"0.0.0.0-0&fd10:10:0:3b::-64":       subnet("", "fd10:10:0:3b::/64"),
		"255.255.255.252-30&fd00::fffc-126": subnet("255.255.255.252/30", "fd00::fffc/126"),
	} {
		got, err := ParseKey(key)
		if got != want || err != nil {
			t.Errorf("%s: %v, %v", key, got, err)
		}
		if got.Key() != key {
			t.Errorf("%s: again %s", key, got.Key())
		}
	}
}

func TestKeysRefused(t *testing.T) {
	for _, key := range []string{
		"", "10.5.34.0", "10.5.34.0-", "10.5.34.0-33", "10.5.34.0-32", "10.5.34.0/24", "10.5.34.1-24", "10.5.34-24", "010.5.34.0-24", "10.5.34.0-24-24",
		"0.0.0.0-0", "10.0.0.0-0", "10.0.0.0-0&fd00::-64", "fd00::-64", "10.5.34.0-24&", "10.5.34.0-24&fd00::", "10.5.34.0-24&fd00::1-64",
		"10.5.34.0-24&::ffff:10.0.0.0-112", "10.5.34.0-24&10.5.35.0-24", "10.5.34.0-24&fd00::-128", "10.5.34.0-24&fe80::%eth0-64",
		"10.5.34.0-24&fd00::-64&fd01::-64", "10.5.34.0-24&::-0", "sub/10.5.34.0-24", "10.5.34.0--24", "10.5.34.0-+24", " 10.5.34.0-24",
	} {
		if got, err := ParseKey(key); err == nil {
			t.Errorf("%q: %v", key, got)
		}
	}
}

func TestKeysCompareAsPrefixes(t *testing.T) {
	s, err := ParseKey("10.5.34.0-24&fd10:0:0::-64") // not as anybody writes it, and flanneld takes it
	if err != nil || s != subnet("10.5.34.0/24", "fd10::/64") {
		t.Errorf("%v, %v", s, err)
	}
}

// captured are values of flanneld 0.28, as etcd had them, and ours.
var captured = []string{
	`{"PublicIP":"192.168.77.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"76:8a:00:46:cd:33"}}`,
	`{"PublicIP":"192.168.77.2","PublicIPv6":"fd77::2","BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"aa:00:00:00:00:01"},"BackendV6Data":{"VNI":7,"VtepMAC":"a2:00:00:00:00:01"}}`,
	`{"PublicIP":"192.168.77.2","PublicIPv6":null}`,
	`{"PublicIP":"192.168.77.2","PublicIPv6":null,"BackendType":"host-gw"}`,
	`{"PublicIP":"0.0.0.0","PublicIPv6":"fd77::2","BackendType":"vxlan","BackendV6Data":{"VNI":7,"VtepMAC":"a2:00:00:00:00:01"}}`,
	`{"PublicIP":"192.168.77.2","PublicIPv6":null,"BackendType":"wireguard","BackendData":{"PublicKey":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","Port":51820}}`,
	`{"PublicIP":"192.168.77.2","PublicIPv6":null,"BackendType":"extension","BackendData":"what it \"printed\""}`,
	`{"PublicIP":"192.168.77.2","PublicIPv6":null,"BackendType":"host-gw","BackendData":null}`,
	`{"PublicIP":"192.168.77.2","PublicIPv6":null,"BackendType":"host-gw","Sealane":{"Node":"n-1","Name":"alpha","later":[1,2]},"Extra":{"rack":1.50}}`,
}

func TestValuesRoundTrip(t *testing.T) {
	for _, text := range captured {
		v, err := ParseValue([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := v.Marshal(); string(got) != text || err != nil {
			t.Errorf("%s, %v\nwant %s", got, err, text)
		}
	}
}

func TestValuesRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                        `not JSON: byte 1: unexpected end of JSON input`,
		`"x"`:                      `a JSON string where an object belongs`,
		`{"PublicIP":"fd00::1"}`:   `PublicIP: "fd00::1": an IPv4 address belongs there`,
		`{"PublicIP":"300.0.0.1"}`: `PublicIP: "300.0.0.1": an IPv4 address belongs there`,
		`{"PublicIP":1}`:           `PublicIP: a JSON number where a string belongs`,
		`{"PublicIP":"1.2.3.4","PublicIPv6":"1.2.3.5"}`: `PublicIPv6: "1.2.3.5": an IPv6 address belongs there`,
		`{"PublicIP":"1.2.3.4","Sealane":{}}`:           `Sealane: Node: missing: the host's ID`,
		`{"PublicIP":"1.2.3.4","Sealane":7}`:            `Sealane: a JSON number where an object belongs`,
	} {
		if _, err := ParseValue([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

func TestBackendData(t *testing.T) {
	mac := []byte{0x76, 0x8a, 0, 0x46, 0xcd, 0x33}
	for d, want := range map[int]string{
		1:     `{"VNI":1,"VtepMAC":"76:8a:00:46:cd:33"}`,
		70000: `{"VNI":4464,"VtepMAC":"76:8a:00:46:cd:33"}`, // of 16 bits, or flanneld reads none of it
	} {
		got, err := VXLANData{d, mac}.Marshal()
		if string(got) != want || err != nil {
			t.Errorf("%d: %s, %v", d, got, err)
		}
		back, err := ParseVXLAN(got)
		if err != nil || back.VtepMAC.String() != "76:8a:00:46:cd:33" {
			t.Errorf("%s: %v, %v", got, back, err)
		}
	}
	for text, want := range map[string]string{
		``:                                      "missing: the host's VtepMAC belongs there",
		`{"VNI":1}`:                             `VtepMAC: "": a MAC address belongs there`,
		`{"VtepMAC":"76:8a:00:46:cd"}`:          `VtepMAC: "76:8a:00:46:cd": a MAC address belongs there`,
		`{"VtepMAC":"76:8a:00:46:cd:33:00:01"}`: `VtepMAC: "76:8a:00:46:cd:33:00:01": six bytes belong there`,
		`{"VtepMAC":"01:00:5e:00:00:01"}`:       `VtepMAC: 01:00:5e:00:00:01: is a group's address`,
		`{"VtepMAC":"00:00:00:00:00:00"}`:       `VtepMAC: 00:00:00:00:00:00: is nobody's address`,
		`[]`:                                    `a JSON array where an object belongs`,
	} {
		if _, err := ParseVXLAN([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	key := "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	got, err := WireGuardData{key, 51820}.Marshal()
	if want := `{"PublicKey":"` + key + `","Port":51820}`; string(got) != want || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if d, err := ParseWireGuard([]byte(`{"PublicKey":"` + key + `"}`)); err != nil || d.Port != 0 {
		t.Errorf("older flanneld: %+v, %v", d, err)
	}
	for _, text := range []string{``, `{}`, `{"PublicKey":"AAAA"}`, `{"PublicKey":"` + strings.Repeat("A", 43) + `="}`, `{"PublicKey":"` + key + `","Port":65536}`, `{"PublicKey":"` + key + `","Port":-1}`} {
		if d, err := ParseWireGuard([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, d)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("10.10.51.0-24&fd10:10:0:3b::-64")
	f.Add("0.0.0.0-0&fd10::-64")
	f.Fuzz(func(t *testing.T, key string) {
		s, err := ParseKey(key)
		if err != nil {
			return
		}
		if again, err := ParseKey(s.Key()); err != nil || again != s || s.IsZero() {
			t.Errorf("%q: %v, then %v, %v", key, s, again, err)
		}
	})
}

func FuzzParseValue(f *testing.F) {
	for _, text := range captured {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseValue([]byte(text))
		if err != nil {
			return
		}
		first, err := v.Marshal()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := ParseValue(first)
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := again.Marshal(); string(second) != string(first) || err != nil {
			t.Errorf("%s\nthen %s, %v", first, second, err)
		}
	})
}
