package cli_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/api/server"
	"github.com/sealane/sealane/internal/cli"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/store"
)

// idle are processes that run until somebody kills them.
type idle struct{}

func (idle) Alive(model.Process) bool                        { return true }
func (idle) Wait(ctx context.Context, _ model.Process) error { <-ctx.Done(); return ctx.Err() }
func (idle) Kill(*model.Process, string) error               { return nil }

// daemon serves the API of an engine over a kernel in memory, and points
// SEALANE_SOCKET at it.
func daemon(t *testing.T) *fake.Kernel {
	t.Helper()
	k, _ := stoppable(t)
	return k
}

func stoppable(t *testing.T) (k *fake.Kernel, stop func()) {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	k = fake.New(&journal.Memory{})
	log := slog.New(slog.DiscardHandler)
	e := engine.New(engine.Config{
		Kernel: k, Store: s, Processes: idle{}, Host: func() engine.Host { return engine.Host{} },
		RunDir: dir, Now: time.Now, Log: log,
		Follow: func(_ context.Context, p kernel.Probe) (kernel.Trail, error) {
			return kernel.Trail{Dst: p.To, Answered: true}, nil
		},
	})
	if err := e.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: server.New(e, server.Info{Version: "1.2.3", RunDir: dir}, log)}
	go srv.Serve(l)
	stop = sync.OnceFunc(func() { srv.Close(); e.Close(); s.Close() })
	t.Cleanup(stop)
	t.Setenv("SEALANE_SOCKET", socket)
	return k, stop
}

// result is what a command line leaves.
type result struct {
	status   int
	out, err string
}

func sealane(stdin string, args ...string) result {
	var out, errs bytes.Buffer
	status := cli.Run(context.Background(), cli.Console{In: strings.NewReader(stdin), Out: &out, Err: &errs}, "1.2.3", args)
	return result{status, out.String(), errs.String()}
}

// IDs and ages differ from run to run, and with them the widths of columns.
var (
	idRE    = regexp.MustCompile(`\b[0-9a-f]{12}\b`)
	spaceRE = regexp.MustCompile(` {2,}`)
)

func steady(s string) string {
	return strings.TrimSpace(spaceRE.ReplaceAllString(idRE.ReplaceAllString(s, "ID"), "  "))
}

// TestCommands is one long use of the command line.
func TestCommands(t *testing.T) {
	k := daemon(t)
	k.Foreign(kstate.NetNS{NS: kstate.NS{Path: "/run/netns/vm", Inode: 77}})
	for _, c := range []struct {
		args   string // fields; _ stands for a space
		status int
		out    string // of standard error if status is not 0
	}{
		{"network ls", 0, "ID  NAME  DRIVER  SUBNETS  ENDPOINTS  STATUS\nID  bridge  bridge  172.17.0.0/16  0  ready\nhost  host  host  -  0  ready\nnone  none  null  -  0  ready"},
		{"network create --subnet 10.9.0.0/24 --aux-address a=10.9.0.2 -o icc=false --label x --internal app", 0, "ID"},
		{"network create app", 1, "sealane: network app: create: the name is taken (by network ID, driver bridge)"},
		{"network create --subnet 10.0.0.1/8 b", 2, "sealane: network b: create: subnet 10.0.0.1/8: host bits are set, should be 10.0.0.0/8"},
		{"network create --subnet x b", 2, `sealane: network create: --subnet "x": want ADDRESS/BITS, as 10.1.0.0/16`},
		{"network create -o x=y b", 2, `sealane: network b: create: option "x": not known to driver bridge, which knows advertise-count, advertise-interval, antispoof, dad, gateway-mode, gateway-mode-ipv4, gateway-mode-ipv6, host-access, host-binding, icc, ifname-prefix, inhibit-ipv4, ipam, masquerade, mtu, name, parent, source-ip, trunks, trusted-interfaces, vlan`},
		{"network create --ipv4=false b", 2, "sealane: network b: create: no subnet: both address families are off"},
		{"network create --ingress b", 2, "sealane: network create: --ingress: every host answers at ports of services without such a network: want service create --publish"},
		{"network create --config-only b", 2, "sealane: network create: --config-only and --config-from: networks have no settings from elsewhere: want them in a file, for apply -f"},
		{"network create --config-from x b", 2, "sealane: network create: --config-only and --config-from: networks have no settings from elsewhere: want them in a file, for apply -f"},
		{"network create --scope planet b", 2, `sealane: network create: --scope "planet": want local, global or swarm`},
		{"network create --scope swarm b", 2, "sealane: network create: --scope swarm: driver bridge decides: overlay and fabric span hosts, others do not"},
		{"network create --scope local -d overlay b", 2, "sealane: network create: --scope local: driver overlay decides: overlay and fabric span hosts, others do not"},
		{"network create --ipam-driver infoblox b", 2, `sealane: network create: --ipam-driver "infoblox": want default, or null for no addresses (from DHCP: network connect --ip dhcp)`},
		{"network create --ipam-opt x=y b", 2, `sealane: network create: --ipam-opt "x=y": not known: want none, or com.docker.network.ipam.serial=true`},
		{"network create --ipam-driver null --subnet 10.5.0.0/24 b", 2, "sealane: network b: create: option ipam: none: a subnet is given, 10.5.0.0/24"},
		{"network create --attachable --scope local --ipam-driver null --ipam-opt com.docker.network.ipam.serial=true wire", 0, "ID"},
		{"network inspect -f {{len_.Subnets}}{{.Options.ipam}} wire", 0, "0none"},
		{"network rm wire", 0, "wire"},
		{"network inspect --format {{.Name}}:{{.Internal}}:{{index_.Options_\"icc\"}}:{{json_.Labels}} app", 0, `app:true:false:{"x":""}`},
		{"run --network-alias www", 125, "sealane: run: alias www: network bridge has no names: want a network made by network create"},
		{"network connect --alias www bridge web", 2, "sealane: network connect: alias www: network bridge has no names: want a network made by network create"},
		{"run --name web -p 8080:80", 0, "ID"},
		{"run --name web", 125, "sealane: sandbox web: create: the name is taken by sandbox ID"},
		{"run --network nope", 125, "sealane: network nope: create: no such network (sealane network ls shows those there are)"},
		{"run --dns-option ndots:x", 125, `sealane: sandbox (new): create: dns-option "ndots:x": want a number from 0 to 255, as ndots:2`},
		{"run --name no --dns-option ndots:x", 125, `sealane: sandbox no: create: dns-option "ndots:x": want a number from 0 to 255, as ndots:2`},
		{"run --dns x", 125, `sealane: sandbox (new): create: dns "x": want an IP address`},
		{"ps", 0, "ID  NAME  STATUS  NETWORKS  PORTS  COMMAND\nID  web  running 0s  bridge=172.17.0.2  8080->80/tcp  -"},
		{"ps -q", 0, "ID"},
		{"network connect --ip 10.9.0.9 --ifname app0 app web", 0, ""},
		{"network connect app web", 1, "sealane: network app: connect web: is connected already"},
		{"network connect -p x app web", 2, `sealane: network connect: port "x": container port "x": want a number from 1 to 65535, or FIRST-LAST`},
		{"network update app", 2, "sealane: network update: want -o, --label or --label-rm"},
		{"network update -o icc=true --label y=1 --label-rm x app", 0, ""},
		{"network update -o name=x app", 2, "sealane: network app: update: option name: cannot change while the network exists"},
		{"network update -o icc=true nope", 1, "sealane: network nope: update: no such network (sealane network ls shows those there are)"},
		{"network inspect --format {{index_.Options_\"icc\"}}:{{json_.Labels}} app", 0, `true:{"y":"1"}`},
		{"network ls --filter type=custom --filter label=y --format {{.Name}}", 0, "app"},
		{"network ls --filter label=y=2 -q", 0, ""},
		{"network ls --filter driver=null --filter name=on --no-trunc --format {{.Name}}", 0, "none"},
		{"network ls --filter colour=red", 2, `sealane: filter colour=red: key "colour": not known (known: driver, id, label, name, scope, type, dangling, internal)`},
		{"network ls --filter scope=global --filter type=custom -q", 0, ""},
		{"network ls -f name=^ap -f scope=local --format {{.Name}}\\t{{.Driver}}{{\"\\n\"}}", 0, "app\tbridge"},
		{"network ls -f name=^app$ -f name=^ost$ -f name=[b-c] --format {{.Name}}", 0, "app\nbridge"},
		{"network ls -f name=[", 2, "sealane: filter name=[: want a part of a name, or a regular expression, as ^web$"},
		{"ps -f name=^/web$ --format {{.Name}}", 0, "web"},
		{"network ls -f name=app --format table", 0, "ID  NAME  DRIVER  SUBNETS  ENDPOINTS  STATUS\nID  app  bridge  10.9.0.0/24  1  ready"},
		{"network ls -f type=builtin --format table_{{.Name}}\\t{{.Driver}}", 0, "NAME  DRIVER\nbridge  bridge\nhost  host\nnone  null"},
		{"network ls -f dangling=true -f name=nope --format table_{{.ID}}:_{{.Status.State}}", 0, "ID: STATE"},
		{"ps --format table{{upper_.Name}}\\t{{range_.Ports}}{{.HostPort}}->{{.Port}}_{{end}}\\t{{json_.Expose}}", 0, "NAME  HOST PORT->PORT  EXPOSE\nWEB  8080->80  []"},
		{"ps --format table_{{.Nope}}", 2, "sealane: ps: --format: no field Nope (known: ID, Name, Mode, PID, NetNS, Guest, Inode, Donor, Origin, Hostname, Domain, Command, Endpoints, Ports, Expose, Links, Status, Exit, Dir, Created)"},
		{"ps --format {{range_.Endpoints}}{{.Nope}}{{end}}", 2, "sealane: ps: --format: no field Nope (known: ID, Network, IfName, MAC, Addresses, Gateway, Aliases, LinkLocal, Sysctls, GwPriority, IngressRate, IngressBurst, EgressRate, EgressBurst, Services, Container, Device, DeviceMAC, MTU, Gateways, Routes, MoreRoutes, Leases)"},
		{"ps --format {{.Status.State.Nope}}", 2, "sealane: ps: --format: <.Status.State.Nope>: can't evaluate field Nope in type string"},
		{"ps --format {{", 2, "sealane: ps: --format: unclosed action"},
		{"ps --format {{nope}}", 2, `sealane: ps: --format: function "nope" not defined`},
		{"inspect web --format {{range_.Endpoints}}{{join_.Addresses_\",\"}}{{end}}", 0, "172.17.0.2/1610.9.0.9/24"},
		{"ps --format {{join_.Name_\";\"}}", 2, "sealane: ps: --format: <join .Name \";\">: error calling join: want a list"},
		{"network ls --format {{.Name}}_{{.Scope}}", 2, "sealane: network ls: --format: no field Scope (known: ID, Name, Driver, Subnets, Options, Internal, Origin, Labels, Endpoints, Status, Exceptions, Device, Created, Backend, VNI, Fabric, Overlay)"},
		{"inspect --format table_{{.Name}} web", 0, "NAME\nweb"},
		{"ps --format table{{define_\"x\"}}{{end}}", 0, ""},
		{"network inspect -v -f {{.Name}} app", 0, "app"},
		{"inspect -f {{.Name}} web", 0, "web"},
		{"port ls --format json", 0, `{"sandbox":"web","protocol":"tcp","hostIP":"","hostPort":8080,"port":80,"count":1}`},
		{"network ls --filter type=none", 2, "sealane: filter type=none: want builtin, custom"},
		{"network connect --link-local-ip 10.0.0.1 bridge web", 1, "sealane: network bridge: connect web: is connected already"},
		{"ps --filter network=app --filter publish=8080 --filter status=running --format {{.Name}}", 0, "web"},
		{"ps --filter expose=80 -q", 0, "ID"},
		{"ps --filter status=away -q", 0, ""},
		{"network list -q -f id=os", 0, "host"},
		{"ps --filter expose=81 -q", 0, ""},
		{"ps --filter publish=x", 2, "sealane: filter publish=x: want PORT[-END][/tcp|udp|sctp]"},
		{"inspect --format {{range_.Endpoints}}{{.IfName}}={{.Network}}_{{end}} web", 0, "eth0=bridge app0=app"},
		{"network inspect --format {{range_.Subnets}}{{.Usage.InUse}},{{.Usage.Reserved}},{{.Usage.Free}},{{json_.Usage}}{{end}} app", 0, `5,4,251,{"inUse":5,"reserved":4,"free":251,"resting":0}`},
		{"network disconnect app web", 0, ""},
		{"network ls --filter name=app --format {{range_.Subnets}}{{.Usage.InUse}},{{.Usage.Resting}}{{end}}", 0, "4,1"},
		{"network disconnect app web", 1, "sealane: network app: disconnect web: sandbox web is not on it"},
		{"network disconnect -f app web", 0, ""},
		{"network connect --link-local-ip 10.0.0.1 app web", 2, "sealane: network app: connect web: link-local-ip 10.0.0.1: want an address of 169.254.0.0/16 or fe80::/64"},
		{"network connect -o colour=red app web", 2, `sealane: network app: connect web: endpoint option "colour": not known (known: ifname, sysctls, gateway, route, mtu, hostif, vlan, trunks, dad, dhcp-client-id, dhcp-duid, dhcp-hostname, dhcp-option, dhcp6-option, dhcp-request, dhcp-timeout, dhcp-vendor-class, ingress-rate, ingress-burst, egress-rate, egress-burst, service, com.docker.network.endpoint.ifname, com.docker.network.endpoint.sysctls)`},
		{"network connect -o sysctls=net.ipv4.conf.eth0.x=1 app web", 2, `sealane: network app: connect web: endpoint option sysctls: sysctl "net.ipv4.conf.eth0.x=1": want net.ipv4|ipv6|mpls.GROUP.IFNAME.KEY=VALUE, with the word IFNAME`},
		{"network connect --ifname a --driver-opt ifname=b app web", 2, `sealane: network app: connect web: interface name "a": endpoint options say "b"`},
		{"network connect --link a:b:c app web", 2, `sealane: network connect: link a: host name "b:c": want DNS labels of letters, digits, '-' and '_', at most 63 each`},
		{"network connect --link vm:db --link-local-ip 169.254.7.7 -o ifname=lan0,a app web", 2, `sealane: network app: connect web: endpoint option ifname: interface name "lan0,a": character ',' is not allowed`},
		{"network connect --link vm:db --link-local-ip 169.254.7.7 -o com.docker.network.endpoint.ifname=Lan0 app web", 0, ""},
		{"inspect --format {{.Links}}_{{range_.Endpoints}}{{.IfName}}={{.LinkLocal}}_{{end}} web", 0, "[vm:db] eth0=[] Lan0=[169.254.7.7/16]"},
		{"network disconnect app web", 0, ""},
		{"inspect --format {{.Links}} web", 0, "[]"},
		{"network connect bridge netns:/run/netns/vm", 0, ""},
		{"network connect bridge netns:/run/netns/nope", 1, "sealane: network bridge: connect netns:/run/netns/nope: /run/netns/nope: not a network namespace (want a path like /run/netns/NAME or /proc/PID/ns/net)"},
		{"port add web 127.0.0.1:90:90/udp 8000-8001:80-81", 0, "127.0.0.1:90->90/udp\n8000-8001->80-81/tcp"},
		{"port rm web 80", 0, ""},
		{"port rm web 80", 1, "sealane: sandbox web: unpublish: port 80/tcp is not published (it is one of 8000-8001:80-81/tcp, which goes as a whole)"},
		{"port ls", 0, "SANDBOX  PORT\nweb  127.0.0.1:90->90/udp\nweb  8000-8001->80-81/tcp"},
		{"port ls web 81/tcp", 0, "SANDBOX  PORT\nweb  8000-8001->80-81/tcp"},
		{"port ls --format {{.HostPort}} web 90/udp", 0, "90"},
		{"port ls web 90", 1, "sealane: sandbox web: list ports: port 90/tcp is not published"},
		{"port ls web x", 2, `sealane: port ls: port "x": container port "x": want a number from 1 to 65535, or FIRST-LAST`},
		{"port ls web 8000:80", 2, `sealane: port ls: port 8000:80/tcp: want PORT[/tcp|udp|sctp]`},
		{"port ls --format {{.Sandbox}}_{{.HostPort}} web", 0, "web 90\nweb 8000"},
		{"port add web published=9000,target=90,from=192.0.2.0/24", 0, "9000->90/tcp from 192.0.2.0/24"},
		{"port rm web 9000:90", 0, ""},
		{"network create -o gateway-mode=routed --subnet 10.8.0.0/24 direct", 0, "ID"},
		{"run --name plain --network direct -p 8080:80 --expose 90-91/udp", 0, "ID"},
		{"port ls plain", 0, "SANDBOX  PORT\nplain  10.8.0.2:80/tcp"},
		{"inspect --format {{.Expose}}{{(index_.Ports_0).HostPort}} plain", 0, "[90-91/udp]0"},
		{"rm plain", 0, "plain"},
		{"network prune -f --filter until=24h", 0, ""},
		{"network prune -f --filter until=soon", 2, "sealane: filter until=soon: want a time as 2006-01-02T15:04:05, or how long ago, as 24h"},
		{"network prune -f --filter label!=y --filter until=0s", 0, "direct"},
		{"network rm -f nope", 0, "nope"},
		{"network remove app bridge nope", 1, "sealane: network bridge: remove: is built in and stays\nsealane: network nope: remove: no such network (sealane network ls shows those there are)"},
		{"inspect nope", 1, "sealane: sandbox nope: find: no such sandbox (sealane ps -a shows those there are)"},
		{"rm web netns:/run/netns/vm", 0, "web\nnetns:/run/netns/vm"},
		{"ps -a -o json", 0, "[]"},
		{"network prune", 0, ""},
		{"diff", 0, ""},
		{"events --since 0s --until 0s", 0, ""},
		{"events --until nope", 2, `sealane: query: until="nope": want a time as 2006-01-02T15:04:05, or how long ago, as 24h`},
		{"version", 0, "sealane 1.2.3, api v1"},
		{"--version", 0, "sealane 1.2.3, api v1"},
		{"-v", 0, "sealane 1.2.3, api v1"},
		{"--nope ps", 2, "sealane: no such flag: --nope"},
		{"-D ps", 2, "sealane: no such flag: 'D' in -D"},
		{"network --nope ls", 2, "sealane: network: no such flag: --nope"},
		{"stop -t 0 web", 2, "sealane: stop: no such command"},
	} {
		var args []string
		for f := range strings.FieldsSeq(c.args) {
			args = append(args, strings.ReplaceAll(f, "_", " "))
		}
		got := sealane("", args...)
		text := got.out
		if c.status != 0 {
			text = got.err
		}
		if got.status != c.status || steady(text) != c.out || got.status == 2 && got.out != "" {
			t.Errorf("sealane %s\n got %d %s\nwant %d %s", c.args, got.status, steady(got.out+got.err), c.status, c.out)
		}
	}
}

// TestLinksToNobody: they are legal where the other may come later, but seen.
func TestLinksToNobody(t *testing.T) {
	daemon(t)
	warned := "sealane: warning: link dbb: no sandbox here has that name yet\n"
	for _, c := range []struct{ line, err string }{
		{"network create app", ""},
		{"network create other", ""},
		{"run --name db --network app", ""},
		{"run --name web --network app --link db:x --link dbb:y", warned},
		{"network connect --link dbb --link db:z other web", warned},
		{"run --name dbb --network app", ""},
		{"run --network app --link dbb", ""},
	} {
		if got := sealane("", strings.Fields(c.line)...); got.status != 0 || got.err != c.err {
			t.Errorf("%s: %+v, want %s", c.line, got, c.err)
		}
	}
}

func TestDeclarations(t *testing.T) {
	daemon(t)
	yml := "networks:\n- name: d\n  options: {mtu: 1400}\n"
	plan := sealane(yml, "plan", "-f", "-")
	if plan.status != 0 || !strings.HasPrefix(plan.out, "+ link ") {
		t.Errorf("plan: %+v", plan)
	}
	file := filepath.Join(t.TempDir(), "d.json")
	if err := os.WriteFile(file, []byte(`{"networks":[{"name":"d","options":{"mtu":"1400"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := sealane("", "apply", "-f", file); got.status != 0 || strings.Count(got.out, "\n") != strings.Count(plan.out, "\n") {
		t.Errorf("apply: %+v", got)
	}
	if got := sealane(yml, "apply", "-f", "-"); got != (result{}) {
		t.Errorf("apply again: %+v", got)
	}
	if got := sealane("networks: 1", "apply", "-f", "-"); got.status != 2 || got.err != "sealane: request body: line 1: networks: want a list\n" {
		t.Errorf("a bad file: %+v", got)
	}
	if got := sealane("", "apply", "-f", "/nope"); got.status != 1 || got.err != "sealane: open /nope: no such file or directory\n" {
		t.Errorf("no file: %+v", got)
	}
}

// TestUsage needs no daemon: what is wrong with it is seen before.
func TestUsage(t *testing.T) {
	t.Setenv("SEALANE_SOCKET", "/nonexistent/s")
	for args, want := range map[string]string{
		"netwrok ls":                   "netwrok: no such command (did you mean network?)",
		"network crate x":              "network crate: no such command (did you mean create?)",
		"help network foo":             "network foo: no such command",
		"__complete ru":                "__complete: no such command",
		"completion bash":              "completion: no such command",
		"--socket x absent":            "absent: no such command",
		"ps --al":                      "ps: no such flag: --al (did you mean --all?)",
		"ps -z":                        "ps: no such flag: 'z' in -z",
		"ps x":                         "ps: want no arguments",
		"ps -o yaml":                   "ps: -o yaml: want json",
		"ps -o json --format x":        "ps: -o and --format: want one of them",
		"ps --format {{":               "ps: --format: unclosed action",
		"ps --format table{{":          "ps: --format: unclosed action",
		"rm":                           "rm: want REF…",
		"network create":               "network create: want [FLAGS] NAME",
		"network create --ipv6=x a":    `network create: --ipv6 "x": want true or false`,
		"network connect a":            "network connect: want [FLAGS] NETWORK REF",
		"plan":                         "plan: want -f FILE",
		"port add web":                 "port add: want REF PORT…",
		"network create --gateway x a": `network create: --gateway "x": want an IP address`,
	} {
		if got := sealane("", strings.Fields(args)...); got.status != 2 || got.err != "sealane: "+want+"\n" || got.out != "" {
			t.Errorf("sealane %s: %+v\nwant %s", args, got, want)
		}
	}
	for args, want := range map[string]string{
		"run --nmae x":       "run: no such flag: --nmae (did you mean --name?)",
		"run -p x":           `run: port "x": container port "x": want a number from 1 to 65535, or FIRST-LAST`,
		"run -e =x ls":       `run: -e "=x": want KEY=VALUE or KEY`,
		"exec":               "exec: want REF [--] CMD [ARG…]",
		"exec web --":        "exec: want REF -- CMD [ARG…]",
		"exec pid:x ls":      "exec: pid:x: want a process number",
		"exec netns:/no ls":  "/no: open network namespace: no such file or directory",
		"exec web ls":        `no daemon at /nonexistent/s: start one with "sealane daemon"`,
		"run --socket /y ls": `no daemon at /y: start one with "sealane daemon"`,
	} {
		if got := sealane("", strings.Fields(args)...); got.status != 125 || got.err != "sealane: "+want+"\n" || got.out != "" {
			t.Errorf("sealane %s: %+v\nwant %s", args, got, want)
		}
	}
	if got := sealane("", "rm", ""); got.status != 2 || got.err != "sealane: rm: an argument is empty: want REF…\n" {
		t.Errorf("an empty reference: %+v", got)
	}
	if got := sealane("", "ps"); got.status != 1 || got.err != "sealane: no daemon at /nonexistent/s: start one with \"sealane daemon\"\n" {
		t.Errorf("no daemon: %+v", got)
	}
}

// TestHelp: every command has a page that begins with its form and one
// sentence, and fits a terminal.
func TestHelp(t *testing.T) {
	for _, args := range []string{"", "run", "exec", "ps", "rm", "inspect", "network", "network create", "network ls", "network inspect", "network rm",
		"network prune", "network update", "network connect", "network disconnect", "service", "service create", "service ls", "service inspect", "service update", "service rm", "stack", "stack ls", "stack rm", "port", "port add", "port rm", "port ls", "apply", "plan", "diff", "explain", "trace", "doctor", "events", "version"} {
		page := sealane("", append(strings.Fields(args), "--help")...)
		form := strings.TrimSpace("Usage: sealane " + args)
		if page.status != 0 || page.err != "" || !strings.HasPrefix(page.out, form) {
			t.Errorf("%s: %+v", args, page)
		}
		for line := range strings.Lines(page.out) {
			if len([]rune(line)) > 121 {
				t.Errorf("%s: a line of %d characters: %s", args, len([]rune(line)), line)
			}
		}
		again := sealane("", append([]string{"help"}, strings.Fields(args)...)...)
		if again != page {
			t.Errorf("help %s: another page: %+v", args, again)
		}
	}
	if bare, page := sealane(""), sealane("", "help"); bare != page || !strings.Contains(page.out, "  network ") {
		t.Errorf("without arguments: %+v", bare)
	}
}
