package model

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDHCPOptions(t *testing.T) {
	o, err := ParseEndpointOptions(map[string]string{
		"dhcp-hostname": "web", "dhcp-client-id": "01:02:0a", "dhcp-duid": "0003000102", "dhcp-request": "192.0.2.7,2001:db8::7",
		"dhcp-vendor-class": "sealane", "dhcp-option": "77:0a0b,43:01", "dhcp6-option": "15:00", "dhcp-timeout": "30", "dad": "off",
	})
	if err != nil || !o.NoDAD || o.DHCP.Timeout != 30*time.Second || !o.DHCP.Given() {
		t.Fatalf("%+v, %v", o, err)
	}
	d4, d6 := o.DHCP.Of(false), o.DHCP.Of(true)
	if d4.Hostname != "web" || string(d4.ClientID) != "\x01\x02\x0a" || d4.Request.String() != "192.0.2.7" || len(d4.Options) != 2 || d4.VendorClass != "sealane" {
		t.Errorf("%+v", d4)
	}
	if string(d6.ClientID) != "\x00\x03\x00\x01\x02" || d6.Request.String() != "2001:db8::7" || len(d6.Options) != 1 {
		t.Errorf("%+v", d6)
	}
	if o, err := ParseEndpointOptions(map[string]string{"dhcp-client-id": "my-box"}); err != nil || string(o.DHCP.ClientID) != "my-box" {
		t.Errorf("%q, %v", o.DHCP.ClientID, err)
	}
	for _, bad := range []string{
		"dhcp-hostname=a b", "dhcp-hostname=", "dhcp-client-id=x", "dhcp-client-id=", "dhcp-duid=zz", "dhcp-duid=01", "dhcp-request=x", "dhcp-request=192.0.2.1,192.0.2.2",
		"dhcp-request=127.0.0.1", "dhcp-vendor-class=", "dhcp-vendor-class=a\nb", "dhcp-option=77", "dhcp-option=0:01", "dhcp-option=255:01", "dhcp-option=53:01", "dhcp-option=61:0102",
		"dhcp-option=77:0", "dhcp-option=77:01,77:02", "dhcp-option=77:" + strings.Repeat("00", 256), "dhcp6-option=3:00", "dhcp6-option=65536:00",
		"dhcp-timeout=0", "dhcp-timeout=-1s", "dhcp-timeout=11m", "dhcp-timeout=soon", "dad=perhaps",
	} {
		k, v, _ := strings.Cut(bad, "=")
		if _, err := ParseEndpointOptions(map[string]string{k: v}); err == nil || !strings.HasPrefix(err.Error(), "endpoint option "+k+": ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A lease comes and goes without a trace, and changes no copy of the endpoint.
func TestSetLease(t *testing.T) {
	user := Endpoint{Outside: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/24")}, Routes: []Route{{Dst: netip.MustParsePrefix("10.9.0.0/16")}}, DHCP4: &DHCP{Hostname: "web"}}
	l := Lease{Addr: netip.MustParsePrefix("192.0.2.7/24"), Router: netip.MustParseAddr("192.0.2.1"), MTU: 1400,
		Routes: []Route{{Dst: netip.MustParsePrefix("10.9.0.0/16"), Via: netip.MustParseAddr("192.0.2.2")}, {Dst: netip.MustParsePrefix("10.8.0.0/16"), Via: netip.MustParseAddr("192.0.2.2")}}}
	ep := user
	ep.SetLease(false, &l, 1500, false)
	if len(ep.Outside) != 2 || ep.Router(false) != l.Router || ep.MTU != 1400 || len(ep.Routes) != 2 || ep.Routes[0].Via.IsValid() || !ep.Leased(false) {
		t.Errorf("%+v", ep)
	}
	if user.DHCP4.Lease != nil || len(user.Outside) != 1 {
		t.Errorf("the copy: %+v", user)
	}
	ep.SetLease(false, nil, 0, false)
	if !slices.Equal(ep.Outside, user.Outside) || len(ep.Routers) != 0 || ep.MTU != 0 || !slices.Equal(ep.Routes, user.Routes) || ep.Lease(false) != nil {
		t.Errorf("afterwards: %+v", ep)
	}
	ep.SetLease(false, &l, 1300, true)
	if ep.MTU != 0 || ep.Router(false).IsValid() {
		t.Errorf("with too large an MTU, and a router that is not wanted: %+v", ep)
	}
}
