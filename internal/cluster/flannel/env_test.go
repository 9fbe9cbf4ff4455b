package flannel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestEnv(t *testing.T) {
	dual := Env{
		Network4: subnet("10.10.0.0/16", "").V4, Network6: subnet("", "fd10:10::/48").V6,
		Subnet: subnet("10.10.51.0/24", "fd10:10:0:3b::/64"), MTU: 1450, IPMasq: true,
	}
	six := dual
	six.Network4, six.Subnet.V4, six.IPMasq = subnet("", "").V4, subnet("", "").V4, false
	for want, e := range map[string]Env{
		"FLANNEL_NETWORK=10.10.0.0/16\nFLANNEL_SUBNET=10.10.51.1/24\nFLANNEL_IPV6_NETWORK=fd10:10::/48\nFLANNEL_IPV6_SUBNET=fd10:10:0:3b::1/64\n" +
			"FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n": dual,
		"FLANNEL_IPV6_NETWORK=fd10:10::/48\nFLANNEL_IPV6_SUBNET=fd10:10:0:3b::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n": six,
	} {
		if got := string(e.Marshal()); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if back, err := ParseEnv([]byte(want)); back != e || err != nil {
			t.Errorf("%+v, %v\nwant %+v", back, err, e)
		}
	}
	for _, text := range []string{"FLANNEL_SUBNET=10.1.2.3", "FLANNEL_NETWORK=fd00::/48", "FLANNEL_MTU=x", "FLANNEL_IPMASQ=maybe"} {
		if e, err := ParseEnv([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, e)
		}
	}
	if e, err := ParseEnv([]byte("# by hand\n\nFLANNEL_SUBNET=\"10.10.51.1/24\"\r\nOTHER=1\n")); err != nil || e.Subnet != subnet("10.10.51.0/24", "") {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestEnvFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flannel", "subnet.env")
	if _, err := ReadEnv(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	e := Env{Network4: subnet("10.10.0.0/16", "").V4, Subnet: subnet("10.10.51.0/24", ""), MTU: 1450}
	if err := WriteFile(path, e.Marshal()); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil || before.Mode() != 0o644 {
		t.Fatalf("%v, %v", before, err)
	}
	if err := WriteFile(path, e.Marshal()); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again: %v", err)
	}
	e.MTU = 1400
	if err := WriteFile(path, e.Marshal()); err != nil {
		t.Fatal(err)
	}
	if back, err := ReadEnv(path); back != e || err != nil {
		t.Errorf("%+v, %v", back, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); len(left) != 1 || err != nil {
		t.Errorf("%v, %v", left, err)
	}
}

// TestDocker compares with what mk-docker-opts.sh writes.
func TestDocker(t *testing.T) {
	const masq = "DOCKER_OPT_BIP=\"--bip=10.1.74.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=true\"\nDOCKER_OPT_MTU=\"--mtu=1472\"\n" +
		"DOCKER_OPTS=\" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\nDOCKER_NETWORK_OPTIONS=\" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\n"
	const dual = "DOCKER_OPT_BIP=\"--bip=10.1.74.1/24\"\nDOCKER_OPT_IPV6=\"--ipv6 --fixed-cidr-v6=fd10:10:0:3b::/64\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=false\"\nDOCKER_OPT_MTU=\"--mtu=1472\"\n" +
		"DOCKER_OPTS=\" --bip=10.1.74.1/24 --ipv6 --fixed-cidr-v6=fd10:10:0:3b::/64 --ip-masq=false --mtu=1472\"\n" +
		"DOCKER_NETWORK_OPTIONS=\" --bip=10.1.74.1/24 --ipv6 --fixed-cidr-v6=fd10:10:0:3b::/64 --ip-masq=false --mtu=1472\"\n"
	for want, e := range map[string]Env{
		masq: {Subnet: subnet("10.1.74.0/24", ""), MTU: 1472},
		dual: {Subnet: subnet("10.1.74.0/24", "fd10:10:0:3b::/64"), MTU: 1472, IPMasq: true},
	} {
		if got := string(e.Docker()); got != want {
			t.Errorf("%+v: %s\nwant %s", e, got, want)
		}
	}
}

func FuzzParseEnv(f *testing.F) {
	f.Add("FLANNEL_NETWORK=10.10.0.0/16\nFLANNEL_SUBNET=10.10.51.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEnv([]byte(text))
		if err != nil || !e.Network4.IsValid() || !e.Subnet.V4.IsValid() || e.Network6.IsValid() || e.Subnet.V6.IsValid() {
			return
		}
		if again, err := ParseEnv(e.Marshal()); err != nil || again != e {
			t.Errorf("%q: %+v, then %+v, %v", text, e, again, err)
		}
	})
}
