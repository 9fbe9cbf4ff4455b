package flannel

import (
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string // as Marshal has it
		v4, v6     string // "NETWORK LEN MIN MAX"
		backend    Backend
	}{
		{"the usual", `{"Network":"10.5.0.0/16"}`, `{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}`,
			"10.5.0.0/16 24 10.5.1.0 10.5.255.0", "", UDP{8285}},
		{"a /22 has /24", `{"Network":"10.5.0.0/22"}`, `{"Network":"10.5.0.0/22","Backend":{"Type":"udp"}}`,
			"10.5.0.0/22 24 10.5.1.0 10.5.3.0", "", UDP{8285}},
		{"a /23 has /25", `{"Network":"10.5.0.0/23"}`, `{"Network":"10.5.0.0/23","Backend":{"Type":"udp"}}`,
			"10.5.0.0/23 25 10.5.0.128 10.5.1.128", "", UDP{8285}},
		{"a /28 has /30", `{"Network":"10.5.0.16/28"}`, `{"Network":"10.5.0.16/28","Backend":{"Type":"udp"}}`,
			"10.5.0.16/28 30 10.5.0.20 10.5.0.28", "", UDP{8285}},
		{"host bits go", `{"Network":"10.5.7.9/16"}`, `{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}`,
			"10.5.0.0/16 24 10.5.1.0 10.5.255.0", "", UDP{8285}},
		{"no case, others kept", `{"nEtwOrk":"10.0.0.0/8","SUBNETLEN":20,"subnetMin":"10.10.0.0","SubnetMax":"10.99.0.0","Delay":1.50,"backend":{"type":"VXLAN","vni":7,"port":0,"Name":"w","x":{"a":[ 1 ]}}}`,
			`{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0","Backend":{"Type":"vxlan","VNI":7,"Name":"w","x":{"a":[1]}},"Delay":1.50}`,
			"10.0.0.0/8 20 10.10.0.0 10.99.0.0", "", VXLAN{VNI: 7, Port: 8472}},
		{"dual stack", `{"EnableIPv6":true,"Network":"10.10.0.0/16","IPv6Network":"fd10:10::/48","Backend":{"Type":"vxlan","DirectRouting":true,"Learning":true,"GBP":true,"MTU":1400,"MacPrefix":"0E-2A"}}`,
			`{"EnableIPv6":true,"Network":"10.10.0.0/16","IPv6Network":"fd10:10::/48","Backend":{"Type":"vxlan","GBP":true,"Learning":true,"DirectRouting":true,"MacPrefix":"0E-2A","MTU":1400}}`,
			"10.10.0.0/16 24 10.10.1.0 10.10.255.0", "fd10:10::/48 64 fd10:10:0:1:: fd10:10:0:ffff::",
			VXLAN{1, 8472, true, true, true, "0E-2A", 1400}},
		{"IPv6 alone", `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd10:10::/63","Backend":{"Type":"host-gw"}}`,
			`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd10:10::/63","Backend":{"Type":"host-gw"}}`,
			"", "fd10:10::/63 65 fd10:10:0:0:8000:: fd10:10:0:1:8000::", HostGW{}},
		{"IPv6, smallest", `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd10::f0/124","IPv6SubnetMin":"::","IPv6SubnetMax":"fd10::f8","Backend":{"Type":"alloc"}}`,
			`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd10::f0/124","IPv6SubnetMax":"fd10::f8","Backend":{"Type":"alloc"}}`,
			"", "fd10::f0/124 126 fd10::f4 fd10::f8", Alloc{}},
		{"the end of IPv4", `{"Network":"255.255.0.0/16","EnableNFTables":true,"SubnetMin":"0.0.0.0","Backend":{"Type":"wireguard","PSK":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","ListenPort":1,"ListenPortV6":2,"MTU":1500,"Mode":"auto","PersistentKeepaliveInterval":25}}`,
			`{"EnableNFTables":true,"Network":"255.255.0.0/16","Backend":{"Type":"wireguard","PSK":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","ListenPort":1,"ListenPortV6":2,"MTU":1500,"Mode":"auto","PersistentKeepaliveInterval":25}}`,
			"255.255.0.0/16 24 255.255.1.0 255.255.255.0", "",
			WireGuard{"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 1, 2, 1500, "auto", 25}},
		{"extension", `{"Network":"10.5.0.0/16","Backend":{"Type":"extension","SubnetAddCommand":"ip route add $SUBNET via $PUBLIC_IP"}}`,
			`{"Network":"10.5.0.0/16","Backend":{"Type":"extension","SubnetAddCommand":"ip route add $SUBNET via $PUBLIC_IP"}}`,
			"10.5.0.0/16 24 10.5.1.0 10.5.255.0", "", Extension{SubnetAddCommand: "ip route add $SUBNET via $PUBLIC_IP"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseConfig([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if g := rangeText(got.V4); g != c.v4 {
				t.Errorf("IPv4: %s, want %s", g, c.v4)
			}
			if g := rangeText(got.V6); g != c.v6 {
				t.Errorf("IPv6: %s, want %s", g, c.v6)
			}
			if got.Backend != c.backend {
				t.Errorf("%+v, want %+v", got.Backend, c.backend)
			}
			text, err := got.Marshal()
			if string(text) != c.want || err != nil {
				t.Errorf("%s, %v\nwant %s", text, err, c.want)
			}
		})
	}
}

func rangeText(r Range) string {
	if !r.Network.IsValid() {
		return ""
	}
	return strings.Join([]string{r.Network.String(), itoa(r.SubnetLen), r.Min.String(), r.Max.String()}, " ")
}

func TestParseConfigRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:              `not JSON: byte 0: unexpected end of JSON input`,
		`[]`:            `a JSON array where an object belongs`,
		`null`:          `a JSON object belongs there`,
		`{"Network":5}`: `Network: a JSON number where a string belongs`,
		`{"Network":"10.5.0.0/16","SubnetLen":"24"}`: `SubnetLen: a JSON string where a whole number belongs`,
		`{}`:                                `Network: missing: the IPv4 prefix that the hosts' subnets are of`,
		`{"EnableIPv4":false}`:              `EnableIPv4: false: EnableIPv6 has to be true then`,
		`{"Network":"10.5.0.0"}`:            `Network: "10.5.0.0": an IPv4 prefix belongs there, with its length`,
		`{"Network":"fd00::/48"}`:           `Network: "fd00::/48": an IPv4 prefix belongs there, with its length`,
		`{"Network":"::ffff:10.0.0.0/112"}`: `Network: "::ffff:10.0.0.0/112": an IPv4 prefix belongs there, with its length`,
		`{"Network":"0.0.0.0/0"}`:           `Network: "0.0.0.0/0": an IPv4 prefix belongs there, with its length`,
		`{"Network":"127.0.0.0/8"}`:         `Network: subnet 127.0.0.0/8: not a subnet for hosts`,
		`{"Network":"224.0.0.0/8"}`:         `Network: subnet 224.0.0.0/8: not a subnet for hosts`,
		`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fe80::/48"}`:                                       `IPv6Network: subnet fe80::/48: link-local addresses are the same on every network`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","MTU":117}}`:                                         `Backend: MTU: 117: 118 at least: 50 of it are not the containers'`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard","MTU":100}}`:                                     `Backend: MTU: 100: 148 at least: 80 of it are not the containers'`,
		`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan","MTU":1349}}`: `Backend: MTU: 1349: 1350 at least: 70 of it are not the containers'`,
		`{"Network":"10.5.0.0/29"}`:                                                            `Network: 10.5.0.0/29: /28 at most: four subnets of four addresses each have to fit`,
		`{"Network":"10.5.0.0/24","SubnetLen":25}`:                                             `SubnetLen: 25: 10.5.0.0/24 needs at least 26: four subnets have to fit`,
		`{"Network":"10.5.0.0/24","SubnetLen":31}`:                                             `SubnetLen: 31: 30 at most: a host's subnet needs four addresses`,
		`{"Network":"10.5.0.0/24","SubnetLen":-1}`:                                             `SubnetLen: -1: 10.5.0.0/24 needs at least 26: four subnets have to fit`,
		`{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0"}`:                                     `SubnetMin: 10.6.0.0: an address of 10.5.0.0/16 belongs there`,
		`{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.7"}`:                                     `SubnetMin: 10.5.1.7: is within a subnet, which begins at 10.5.1.0`,
		`{"Network":"10.5.0.0/16","SubnetMax":"10.5.1"}`:                                       `SubnetMax: "10.5.1": an IPv4 address belongs there`,
		`{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.8.0"}`:              `SubnetMax: 10.5.8.0: SubnetMin, 10.5.9.0, has to be at it or below`,
		`{"EnableIPv6":true,"Network":"10.5.0.0/16"}`:                                          `IPv6Network: missing: the IPv6 prefix that the hosts' subnets are of`,
		`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/125"}`:                    `IPv6Network: fd00::/125: /124 at most: four subnets of four addresses each have to fit`,
		`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","IPv6SubnetLen":127}`: `IPv6SubnetLen: 127: 126 at most: a host's subnet needs four addresses`,
		`{"Network":"10.5.0.0/16","Backend":{}}`:                                               `Backend: Type: missing: vxlan, host-gw, wireguard, udp, extension or alloc`,
		`{"Network":"10.5.0.0/16","Backend":null}`:                                             `Backend: Type: missing: vxlan, host-gw, wireguard, udp, extension or alloc`,
		`{"Network":"10.5.0.0/16","Backend":"vxlan"}`:                                          `Backend: a JSON string where an object belongs`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"geneve"}}`:                                `Backend: Type: "geneve": there is none: vxlan, host-gw, wireguard, udp, extension or alloc`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"ipip"}}`:                                  `Backend: Type: "ipip": is Flannel's alone: "vxlan" with DirectRouting does that and IPv6`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"ipsec"}}`:                                 `Backend: Type: "ipsec": is Flannel's alone: "wireguard" encrypts too`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"tencent-vpc"}}`:                           `Backend: Type: "tencent-vpc": no routing tables of clouds here: "vxlan" needs none`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}`:                  `Backend: VNI: 16777216: 0 to 16777215 belongs there`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Port":"1"}}`:                      `Backend: Port: a JSON string where a whole number belongs`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":0}}`:                          `Backend: Port: 0: a UDP port, up to 65535, belongs there`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard","Mode":"both"}}`:               `Backend: Mode: "both": separate, auto, ipv4 or ipv6 belongs there`,
		`{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard","PSK":"c2VjcmV0"}}`:            `Backend: PSK: 32 bytes in base64 belong there, as wg genpsk prints them`,
	} {
		if _, err := ParseConfig([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s:\n%v\nwant %s", text, err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(`{"EnableIPv6":true,"Network":"10.10.0.0/16","IPv6Network":"fd10:10::/48","SubnetLen":26,"x":[1,"é"],"Backend":{"Type":"vxlan","MTU":1400,"y":null}}`)
	f.Add(`{"Network":"255.255.255.0/24","SubnetMin":"255.255.255.64","Backend":{"Type":"wireguard"}}`)
	f.Add(`{"Network":"10.0.0.0/1","network":"10.0.0.0/8"}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConfig([]byte(text))
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: more than a line", err)
			}
			return
		}
		first, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(first)
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := again.Marshal(); err != nil || string(second) != string(first) || again.V4 != c.V4 || again.V6 != c.V6 {
			t.Errorf("%s\nthen %s, %v", first, second, err)
		}
		taken := []Subnet{}
		for range 3 {
			s, err := Choose(c, taken, func(n int) int { return n - 1 })
			if err != nil {
				return
			}
			if !c.Fits(s) {
				t.Fatalf("%s: %s does not fit", text, s)
			}
			taken = append(taken, s)
		}
	})
}
