package cli

import (
	"encoding/csv"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

func TestParseSpec(t *testing.T) {
	for _, c := range []struct {
		text string
		want api.EndpointSpec
		err  string
	}{
		{"app", api.EndpointSpec{Network: "app"}, ""},
		{"container:web", api.EndpointSpec{Network: "container:web"}, ""},
		{"name=app", api.EndpointSpec{Network: "app"}, ""},
		{"name=app,ip=10.0.0.2,ip6=fd00::2,alias=a,alias=b,mac-address=02:42:0a:00:00:02,ifname=net0,gw-priority=-3",
			api.EndpointSpec{Network: "app", EndpointOptions: api.EndpointOptions{IP: "10.0.0.2", IP6: "fd00::2", Aliases: []string{"a", "b"},
				MAC: "02:42:0a:00:00:02", IfName: "net0", GwPriority: -3}}, ""},
		{"name=App,alias=DB,link-local-ip=169.254.3.4,link-local-ip=fe80::34,sysctl=net.ipv4.conf.IFNAME.log_martians=1,driver-opt=com.docker.network.endpoint.ifname=Lan0",
			api.EndpointSpec{Network: "App", EndpointOptions: api.EndpointOptions{Aliases: []string{"DB"}, LinkLocalIPs: []string{"169.254.3.4", "fe80::34"},
				Sysctls: []string{"net.ipv4.conf.IFNAME.log_martians=1"}, Options: map[string]string{"com.docker.network.endpoint.ifname": "Lan0"}}}, ""},
		{`name=app,"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.a=1,net.ipv4.conf.IFNAME.b=2"`,
			api.EndpointSpec{Network: "app", EndpointOptions: api.EndpointOptions{
				Options: map[string]string{"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.a=1,net.ipv4.conf.IFNAME.b=2"}}}, ""},
		{"name=app,driver-opt=x", api.EndpointSpec{}, `driver-opt "x": want KEY=VALUE`},
		{"name=app,driver-opt==x", api.EndpointSpec{}, `driver-opt "=x": want KEY=VALUE`},
		{"name=app,driver-opt=a=1,driver-opt=a=2", api.EndpointSpec{}, "driver-opt a: is there twice"},
		{"name=app,gw-priority=0,gw-priority=1", api.EndpointSpec{}, "gw-priority: is there twice"},
		{`name=app,"`, api.EndpointSpec{}, "want name=N,KEY=VALUE"},
		{"name=app\nname=b", api.EndpointSpec{}, "want name=N,KEY=VALUE"},
		{"name=app,Alias=b", api.EndpointSpec{}, `key "Alias": not known`},
		{"", api.EndpointSpec{}, "want a network's name"},
		{"a b", api.EndpointSpec{}, "want a network's name"},
		{"container:", api.EndpointSpec{}, "want container:REF"},
		{"ip=10.0.0.2", api.EndpointSpec{}, `"ip=10.0.0.2": name: missing`},
		{"name=app,", api.EndpointSpec{}, `"": want KEY=VALUE`},
		{"name=app,ip=", api.EndpointSpec{}, `"ip=": want KEY=VALUE`},
		{"name=app,name=b", api.EndpointSpec{}, "name: is there twice"},
		{"name=app,pi=1", api.EndpointSpec{}, `key "pi": not known (known: alias, driver-opt, gw-priority, ifname, ip, ip6, link-local-ip, mac-address, name, service, sysctl)`},
		{"name=app,service=web:8080*2,service=api", api.EndpointSpec{Network: "app", EndpointOptions: api.EndpointOptions{Options: map[string]string{"service": "web:8080*2,api"}}}, ""},
		{"name=app,service=web:x", api.EndpointSpec{}, `service "web:x": want NAME[:PORT][*WEIGHT]`},
		{"name=app,service=web*17", api.EndpointSpec{}, "WEIGHT from 1 to 16"},
		{"name=app,gw-priority=x", api.EndpointSpec{}, `gw-priority "x": want a number`},
		{"name=host,ip=10.0.0.2", api.EndpointSpec{}, "host takes no settings"},
	} {
		got, err := parseSpec(c.text)
		checkParse(t, c.text, got, c.want, err, c.err)
	}
}

// checkParse compares a result, or an error that has to contain a text and be
// one line.
func checkParse(t *testing.T, text string, got, want any, err error, wantErr string) {
	t.Helper()
	switch {
	case (err != nil) != (wantErr != ""):
		t.Errorf("%s: error %v, want %q", text, err, wantErr)
	case err != nil:
		if !strings.Contains(err.Error(), wantErr) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %q, want …%s…", text, err, wantErr)
		}
	default:
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// FuzzSpec: what parses can be written again, and is the same then.
func FuzzSpec(f *testing.F) {
	for _, s := range []string{"app", "host", "container:x", "name=a,ip=1.2.3.4,alias=b,alias=c", "name=a,gw-priority=-1,ifname=i,mac-address=m,ip6=::1",
		`name=a,"sysctl=a=1,2",driver-opt=k=v,link-local-ip=fe80::2`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ep, err := parseSpec(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %q", text, err)
			}
			return
		}
		again, err := parseSpec(specText(ep))
		if err != nil || !cmp.Equal(ep, again) {
			t.Fatalf("%q: %+v, then %+v, %v", text, ep, again, err)
		}
	})
}

func specText(ep api.EndpointSpec) string {
	if strings.HasPrefix(ep.Network, containerPrefix) {
		return ep.Network
	}
	parts := []string{"name=" + ep.Network}
	for _, kv := range [][2]string{{"ip", ep.IP}, {"ip6", ep.IP6}, {"mac-address", ep.MAC}, {"ifname", ep.IfName}} {
		if kv[1] != "" {
			parts = append(parts, kv[0]+"="+kv[1])
		}
	}
	for _, a := range ep.Aliases {
		parts = append(parts, "alias="+a)
	}
	if ep.GwPriority != 0 {
		parts = append(parts, "gw-priority="+strconv.Itoa(ep.GwPriority))
	}
	for _, a := range ep.LinkLocalIPs {
		parts = append(parts, "link-local-ip="+a)
	}
	for _, s := range ep.Sysctls {
		parts = append(parts, "sysctl="+s)
	}
	for k, v := range ep.Options {
		parts = append(parts, "driver-opt="+k+"="+v)
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(parts) // a strings.Builder takes all
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func TestParsePlace(t *testing.T) {
	for _, c := range []struct {
		specs []string
		mode  model.Mode
		donor string
		nets  []string
		err   string
	}{
		{nil, model.ModeOwn, "", []string{"bridge"}, ""},
		{[]string{"default"}, model.ModeOwn, "", []string{"bridge"}, ""},
		{[]string{"app", "name=back,ip=10.0.0.2"}, model.ModeOwn, "", []string{"app", "back"}, ""},
		{[]string{"host"}, model.ModeHost, "", nil, ""},
		{[]string{"name=host"}, model.ModeHost, "", nil, ""},
		{[]string{"none"}, model.ModeOwn, "", nil, ""},
		{[]string{"container:web"}, model.ModeShared, "web", nil, ""},
		{[]string{"host", "app"}, "", "", nil, "network host: cannot be combined"},
		{[]string{"app", "none"}, "", "", nil, "network none: cannot be combined"},
		{[]string{"app", "container:x"}, "", "", nil, "network container:x: cannot be combined"},
	} {
		p, err := parsePlace(c.specs)
		var nets []string
		for _, ep := range p.networks {
			nets = append(nets, ep.Network)
		}
		checkParse(t, strings.Join(c.specs, " "), []any{p.mode, p.donor, nets}, []any{c.mode, c.donor, c.nets}, err, c.err)
	}
}

func TestParseHosts(t *testing.T) {
	for _, c := range []struct{ text, name, addr, err string }{
		{"db:10.0.0.1", "db", "10.0.0.1", ""},
		{"db=10.0.0.1", "db", "10.0.0.1", ""},
		{"db:fd00::1", "db", "fd00::1", ""},
		{"db:[fd00::1]", "db", "fd00::1", ""},
		{"me:host-gateway", "me", "host-gateway", ""},
		{"db", "", "", "want NAME:ADDRESS"},
		{":10.0.0.1", "", "", "want NAME:ADDRESS"},
		{"db:x", "", "", `"x" is neither an IP address nor host-gateway`},
	} {
		got, err := parseHosts([]string{c.text})
		checkParse(t, c.text, got, []api.HostEntry{{Name: c.name, Address: c.addr}}, err, c.err)
	}
}

func TestGroupSubnets(t *testing.T) {
	for _, c := range []struct {
		flags subnetFlags
		want  []api.SubnetSpec
		err   string
	}{
		{subnetFlags{}, nil, ""},
		{subnetFlags{
			subnets:  []string{"10.1.0.0/16", "fd00:1::/64"},
			gateways: []string{"fd00:1::9", "10.1.0.9"},
			ranges:   []string{"10.1.4.0/24"},
			aux:      []string{"a=10.1.0.2", "b=fd00:1::2", "c=10.1.0.3"},
		}, []api.SubnetSpec{
			{Prefix: "10.1.0.0/16", Gateway: "10.1.0.9", Range: "10.1.4.0/24", Aux: map[string]string{"a": "10.1.0.2", "c": "10.1.0.3"}},
			{Prefix: "fd00:1::/64", Gateway: "fd00:1::9", Aux: map[string]string{"b": "fd00:1::2"}},
		}, ""},
		{subnetFlags{subnets: []string{"10.1.0.0"}}, nil, `--subnet "10.1.0.0": want ADDRESS/BITS`},
		{subnetFlags{gateways: []string{"10.1.0.1"}}, nil, "--gateway 10.1.0.1: is in no --subnet"},
		{subnetFlags{subnets: []string{"10.1.0.0/16"}, gateways: []string{"10.1.0.1", "10.1.0.2"}}, nil, "subnet 10.1.0.0/16 has 10.1.0.1 already"},
		{subnetFlags{subnets: []string{"10.1.0.0/16"}, gateways: []string{"x"}}, nil, `--gateway "x": want an IP address`},
		{subnetFlags{subnets: []string{"10.1.0.0/16"}, ranges: []string{"10.2.0.0/24"}}, nil, "--ip-range 10.2.0.0/24: is in no --subnet"},
		{subnetFlags{subnets: []string{"10.1.0.0/16"}, ranges: []string{"10.1.0.0/24", "10.1.1.0/24"}}, nil, "has 10.1.0.0/24 already"},
		{subnetFlags{subnets: []string{"10.1.0.0/16"}, aux: []string{"10.1.0.2"}}, nil, "want NAME=ADDRESS"},
		{subnetFlags{subnets: []string{"10.1.0.0/16"}, aux: []string{"=10.1.0.2"}}, nil, "want NAME=ADDRESS"},
		{subnetFlags{subnets: []string{"10.1.0.0/16"}, aux: []string{"a=10.1.0.2", "a=10.1.0.3"}}, nil, "a is 10.1.0.2 already"},
	} {
		got, err := c.flags.group()
		checkParse(t, strings.Join(c.flags.subnets, " "), got, c.want, err, c.err)
	}
}

func TestRunSpec(t *testing.T) {
	for _, c := range []struct {
		args string
		want api.SandboxSpec
		err  string
	}{
		{"", api.SandboxSpec{Mode: "own", Command: []string{}, Networks: []api.EndpointSpec{{Network: "bridge"}}}, ""},
		{"--rm --name web -p 8080:80 -P --expose 81 --hostname h --domainname d --dns 192.0.2.1 --dns-search s --dns-opt ndots:2 --add-host x:10.0.0.1 --sysctl net.a=1=2 nginx -g x",
			api.SandboxSpec{Name: "web", Mode: "own", Networks: []api.EndpointSpec{{Network: "bridge"}}, Ports: []string{"8080:80"}, PublishAll: true,
				Expose: []string{"81"}, Hostname: "h", Domain: "d", DNS: api.DNS{Servers: []string{"192.0.2.1"}, Search: []string{"s"}, Options: []string{"ndots:2"}},
				Hosts: []api.HostEntry{{Name: "x", Address: "10.0.0.1"}}, Sysctls: map[string]string{"net.a": "1=2"}, Command: []string{"nginx", "-g", "x"}, AutoRemove: true}, ""},
		{"--net app --network name=back,ip=10.0.0.3 --ip 10.0.0.2 --ip6 fd00::2 --mac-address m --net-alias a --network-alias b -- ls -- -l",
			api.SandboxSpec{Mode: "own", Command: []string{"ls", "--", "-l"}, Networks: []api.EndpointSpec{
				{Network: "app", EndpointOptions: api.EndpointOptions{IP: "10.0.0.2", IP6: "fd00::2", MAC: "m", Aliases: []string{"a", "b"}}},
				{Network: "back", EndpointOptions: api.EndpointOptions{IP: "10.0.0.3"}}}}, ""},
		{"--link db --link cache:c --link-local-ip 169.254.1.2 --network name=app,link-local-ip=fe80::9 --expose 80-82/udp ls",
			api.SandboxSpec{Mode: "own", Command: []string{"ls"}, Links: []string{"db", "cache:c"}, Expose: []string{"80-82/udp"}, Networks: []api.EndpointSpec{
				{Network: "app", EndpointOptions: api.EndpointOptions{LinkLocalIPs: []string{"fe80::9", "169.254.1.2"}}}}}, ""},
		{"-h shop ls", api.SandboxSpec{Mode: "own", Command: []string{"ls"}, Hostname: "shop", Networks: []api.EndpointSpec{{Network: "bridge"}}}, ""},
		{"--link :x ls", api.SandboxSpec{}, `link: name ""`},
		{"--link db: ls", api.SandboxSpec{}, "want NAME or NAME:ALIAS"},
		{"--link db:a_b_/ ls", api.SandboxSpec{}, "link db: host name"},
		{"--network none --link-local-ip 169.254.1.2 ls", api.SandboxSpec{}, "--link-local-ip: there is no network"},
		{"--expose 80-79 ls", api.SandboxSpec{}, `--expose: port "80-79"`},
		{"--network host ls", api.SandboxSpec{Mode: "host", Command: []string{"ls"}}, ""},
		{"--network container:web ls", api.SandboxSpec{Mode: "shared", Donor: "web", Command: []string{"ls"}}, ""},
		{"--network none", api.SandboxSpec{Mode: "own", Command: []string{}}, ""},
		{"--network host", api.SandboxSpec{}, "there is no namespace to hold"},
		{"--network none --ip 10.0.0.2 ls", api.SandboxSpec{}, "--ip: there is no network"},
		{"--network-alias a ls", api.SandboxSpec{}, "alias a: network bridge has no names: want a network made by network create"},
		{"--network default --network-alias a ls", api.SandboxSpec{}, "alias a: network bridge has no names"},
		{"--network app --network name=bridge,alias=a ls", api.SandboxSpec{}, "alias a: network bridge has no names"},
		{"--network host --network-alias a ls", api.SandboxSpec{}, "--network-alias: there is no network"},
		{"--network name=a,ip=10.0.0.2 --ip 10.0.0.3 ls", api.SandboxSpec{}, "--ip: network a has one already"},
		{"-p x", api.SandboxSpec{}, `port "x"`},
		{"--sysctl x", api.SandboxSpec{}, `--sysctl "x": want KEY=VALUE`},
		{"--add-host x", api.SandboxSpec{}, "want NAME:ADDRESS"},
	} {
		var f runFlags
		set := pflag.NewFlagSet("run", pflag.ContinueOnError)
		set.SetInterspersed(false)
		set.SetNormalizeFunc(dockerNames)
		f.register(set)
		if err := set.Parse(strings.Fields(c.args)); err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		got, err := f.spec(set.Args())
		checkParse(t, c.args, got, c.want, err, c.err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SEALANE_TEST_A", "ours")
	t.Setenv("SEALANE_TEST_B", "ours")
	env, err := environment([]string{"SEALANE_TEST_A=theirs", "SEALANE_TEST_B", "SEALANE_TEST_NONE", "SEALANE_TEST_C=x=y"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, kv := range env {
		if strings.HasPrefix(kv, "SEALANE_TEST") {
			got = append(got, kv)
		}
	}
	want := []string{"SEALANE_TEST_B=ours", "SEALANE_TEST_A=theirs", "SEALANE_TEST_C=x=y"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := environment([]string{"=x"}); err == nil {
		t.Error("a variable without a name")
	}
}

func TestSuggest(t *testing.T) {
	names := []string{"network", "name", "ps", "rm", "run"}
	for word, want := range map[string]string{
		"netwrok": " (did you mean --network?)", "nmae": " (did you mean --name?)", "net": " (did you mean --network?)",
		"rn": " (did you mean --rm?)", "xyzzy": "", "": "",
	} {
		if got := suggest(word, names, "--"); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

// FuzzFlags reads anything as the flags that are sorted and taken apart here.
func FuzzFlags(f *testing.F) {
	f.Add("10.1.0.0/16,fd00::/64", "10.1.0.1", "a=10.1.0.2")
	f.Add("x:[::1]", "=", ",")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		flags := subnetFlags{subnets: []string{a}, gateways: []string{b}, aux: []string{c}}
		if specs, err := flags.group(); err == nil {
			for _, s := range specs {
				if _, err := netip.ParsePrefix(s.Prefix); err != nil {
					t.Errorf("%q %q %q: %+v", a, b, c, s)
				}
			}
		}
		if hosts, err := parseHosts([]string{a, b, c}); err == nil && len(hosts) != 3 {
			t.Errorf("%q %q %q: %+v", a, b, c, hosts)
		}
		if m, err := pairs("-o", []string{a, b, c}); err == nil && (len(m) == 0 || m[""] != "") {
			t.Errorf("%q %q %q: %q", a, b, c, m)
		}
		if _, err := parsePlace([]string{a, b}); err == nil && (a == "" || b == "") {
			t.Errorf("%q %q is a place", a, b)
		}
	})
}

func TestMentioned(t *testing.T) {
	t.Setenv("STACK_PORT", "80")
	t.Setenv("STACK_EMPTY", "")
	if got := strings.Join(mentioned("a: $STACK_PORT ${STACK_PORT:-1} $$ $ ${STACK_EMPTY}${NOT_SET_HERE} $9 x$STACK_PORT"), " "); got != "STACK_EMPTY= STACK_PORT=80" {
		t.Error(got)
	}
}
