package cli_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kstate"
)

// hostile is what nobody should say, but for the flags that take it.
func hostile() []string {
	return []string{
		"", " ", "\t", "a b", "a\nb", "a\rb", "\n", "\x1b[31mred\x1b[0m", "\xff\xfe", "\u009b31m", "\u202egnp",
		strings.Repeat("x", 5000), "-1", "--x", "99999999999999999999", "٣", "８０", "10．9．9．9", "аpp", "ap\u200bp", "a\u2028b", "../../etc/passwd", "/", "..", "a;b", `"`, "$(reboot)", "=", "=x", "a=b",
		",", ":", "::", "{{.}}", "%s%n", "010.1.2.3", "10.9.9.9", "fe80::1%eth0", "::ffff:10.1.0.9", "fd00::9",
		"0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "ff02::1", "ff:ff:ff:ff:ff:ff", "02:42:0a:01:00:02:03",
		"0x50", "1e3", "0", "65536", "+100", "80-", "80-79", "8080:0", "80/tcp/udp", "true",
	}
}

// What several flags take of it.
var (
	asName   = []string{"99999999999999999999", "010.1.2.3", "10.9.9.9", "0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "0x50", "1e3", "0", "65536", "80-79", "true"}
	asObject = append([]string{"80-"}, asName...)
	asDevice = []string{"-1", "--x", "..x", "$(reboot)", "=", "=x", "a=b", "010.1.2.3", "10.9.9.9", "0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "0x50", "1e3", "0", "65536", "+100", "80-", "80-79", "true"}
	asPrefix = slices.DeleteFunc(slices.Clone(asDevice), func(s string) bool { return len(s) > 12 })
	asBool   = []string{"0", "true"}
	none     []string
)

// anything leaves out what is empty or not UTF-8, of a filter or template that
// may not be there.
func anything(but ...string) []string {
	return slices.DeleteFunc(hostile(), func(s string) bool { return s == "" || !utf8.ValidString(s) || slices.Contains(but, s) })
}

// labels leaves out what makes no label.
func labels() []string {
	return slices.DeleteFunc(anything(" ", "\t", "=", "=x"), func(s string) bool {
		return len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
	})
}

// hostileCase is a command line with @ in place of a value, and what of the
// hostile values it takes.
type hostileCase struct {
	line  string // fields
	takes []string
}

func hostileCases() []hostileCase {
	cases := []hostileCase{
		{"@", none}, {"network @", none}, {"help @", none}, {"--socket @ ps", none},
		{"run --name @", asObject}, {"run --network @", none}, {"run --network name=@", none}, {"run --network container:@", none},
		{"run --publish @", none}, {"run --expose @", none}, {"run --ip @", none}, {"run --ip6 @", none},
		{"run --mac-address @", none}, {"run --service @", none}, {"run --network name=app,service=@", none}, {"run --network app --network-alias @", asName}, {"run --link-local-ip @", none},
		{"run --link @", none}, {"run --network app --link @", append([]string{"8080:0"}, asName...)}, {"run --dns @", []string{"10.9.9.9", "fd00::9", "127.0.0.1"}},
		{"run --dns-search @", asName}, {"run --dns-option @", []string{"-1", "--x", "99999999999999999999", "0x50", "1e3", "0", "65536", "80-", "80-79", "8080:0", "true"}},
		{"run --add-host @", none}, {"run --hostname @", asName}, {"run --domainname @", asName}, {"run --sysctl @", none},
		{"run --env @", none}, {"run --workdir @", none}, // there is no command
		{"run --detach=@", asBool}, {"run --rm=@", asBool}, {"run --publish-all=@", asBool},
		{"run --network name=app,ip=@", none}, {"run --network name=app,ip6=@", none}, {"run --network name=app,alias=@", asName},
		{"run --network name=app,mac-address=@", none}, {"run --network name=app,ifname=@", asDevice}, {"run --network name=app,link-local-ip=@", none},
		{"run --network name=app,gw-priority=@", []string{"-1", "0", "65536", "+100"}}, {"run --network name=app,sysctl=@", none},
		{"run --network name=app,driver-opt=@", none}, {"run --network name=app,driver-opt=ifname=@", asDevice}, {"run --network name=app,driver-opt=sysctls=@", none},
		{"exec @ true", none}, {"exec netns:@ true", none}, {"exec pid:@ true", none},
		{"ps @", none}, {"ps --all=@", asBool}, {"ps --quiet=@", asBool}, {"ps --no-trunc=@", asBool}, {"ps --output @", none},
		{"ps --format @", anything()}, {"ps --filter @", none}, {"ps --filter id=@", anything()}, {"ps --filter name=@", anything("\x1b[31mred\x1b[0m", "+100")},
		{"ps --filter network=@", anything()}, {"ps --filter publish=@", none}, {"ps --filter expose=@", none}, {"ps --filter status=@", none},
		{"rm @", none}, {"rm --force=@ nope", none}, {"inspect @", none}, {"inspect --output @ web", none}, {"inspect --format @ web", anything()},
		{"network create @", asObject}, {"network create --driver @ n", none}, {"network create --subnet @ n", none},
		{"network create --subnet 10.7.0.0/24 --gateway @ n", none}, {"network create --subnet 10.7.0.0/24 --ip-range @ n", none},
		{"network create --subnet 10.7.0.0/24 --aux-address @ n", none}, {"network create --subnet 10.7.0.0/24 --aux-address a=@ n", none},
		{"network create --internal=@ n", asBool}, {"network create --ipv6=@ n", asBool}, {"network create --ipv4=@ n", []string{"true"}},
		{"network create --label @ n", labels()}, {"network create --opt @ n", none},
		{"network create --attachable=@ n", asBool}, {"network create --ingress=@ n", []string{"0"}}, {"network create --config-only=@ n", []string{"0"}},
		{"network create --config-from @ n", none}, {"network create --scope @ n", none}, {"network create --ipam-driver @ n", none}, {"network create --ipam-opt @ n", none},
		{"network ls @", none}, {"network ls --quiet=@", asBool}, {"network ls --no-trunc=@", asBool}, {"network ls --output @", none},
		{"network ls --format @", anything()}, {"network ls --filter @", none}, {"network ls --filter driver=@", anything()}, {"network ls --filter id=@", anything()},
		{"network ls --filter label=@", anything()}, {"network ls --filter name=@", anything("\x1b[31mred\x1b[0m", "+100")}, {"network ls --filter scope=@", none}, {"network ls --filter type=@", none},
		{"network ls --filter dangling=@", []string{"true"}}, {"network ls --filter internal=@", []string{"true"}},
		{"network inspect @", none}, {"network inspect --output @ app", none}, {"network inspect --format @ app", anything()}, {"network inspect --verbose=@ app", asBool},
		{"network update --label @ app", labels()}, {"network update --label-rm @ app", anything()}, {"network update --opt @ app", none},
		{"network update --opt icc=true @", none},
		{"network rm @", none}, {"network rm --force=@ nope", []string{"true"}},
		{"network prune @", none}, {"network prune --force=@", asBool}, {"network prune --filter @", none}, {"network prune --filter until=@", []string{"0", "65536"}},
		{"network connect @ web", none}, {"network connect app @", none}, {"network connect app netns:@", none}, {"network connect app pid:@", none},
		{"network connect --await=@ app web", asBool}, {"network connect app docker:@", none}, {"network connect app containerd:@", none},
		{"network connect --ip @ app web", none}, {"network connect --ip6 @ app web", none}, {"network connect --mac-address @ app web", none},
		{"network connect --alias @ app web", asName}, {"network connect --ifname @ app web", asDevice}, {"network connect --link-local-ip @ app web", none},
		{"network connect --link @ app web", append([]string{"8080:0"}, asName...)}, {"network connect --gw-priority @ app web", []string{"-1", "0", "65536", "+100"}},
		{"network connect --opt @ app web", none}, {"network connect --publish @ app web", none},
		{"network disconnect @ web", none}, {"network disconnect app @", none}, {"network disconnect --force=@ app nope", []string{"true"}},
		{"service @", none}, {"service ls @", none}, {"service ls --quiet=@", asBool}, {"service ls --output @", none}, {"service ls --format @", anything()},
		{"service create --name @ --network app --port 80", none}, {"service create --name n --network @ --port 80", none}, {"service create --name n --network app --port @", none},
		{"service create --name n --network app --port 80 --endpoint-mode @", none}, {"service create --name n --network app --port 80 --lb @", none},
		{"service create --name n --network app --publish @", none}, {"service create --name n --network app --publish published=80,target=@", none},
		{"service create --name n --network app --publish 80,mode=@", none}, {"service create --name n --network app --port 80 --publish-local-first=@", none},
		{"service create --name n --network app --port 80 --health @", none}, {"service create --name n --network app --port 80 --health http:@", none}, {"service create --name n --network app --port 80 --health http:/@", none},
		{"service create --name n --network app --port 80 --health tcp --health-interval @", none}, {"service create --name n --network app --port 80 --health tcp --health-timeout @", none}, {"service create --name n --network app --port 80 --health tcp --health-retries @", none},
		{"service update --health @ n", none}, {"service update --health-interval @ n", none}, {"service update --health-timeout @ n", none}, {"service update --health-retries @ n", none},
		{"service create --name n --network app --port 80 --affinity @", none}, {"service create --name n --network app --port 80 --label @", none}, {"service create @", none}, {"service inspect @", none},
		{"service inspect --output @ n", none}, {"service inspect --format @ n", none}, {"service update @", none}, {"service update --lb hash @", none},
		{"service update --drain @ n", none}, {"service update --undrain @ n", none}, {"service update --lb @ n", none}, {"service update --port @ n", none}, {"service update --affinity @ n", none},
		{"service update --publish-add @ n", none}, {"service update --publish-rm @ n", none}, {"service update --publish-local-first=@ n", none}, {"service rm @", none},
		{"service update --endpoint-mode @ n", none}, {"service update --label-add @ n", none}, {"service update --label-rm @ n", none},
		{"port add @ 80", none}, {"port add web @", none}, {"port add web target=80,published=@", []string{"0"}}, {"port add web target=@", none},
		{"port add web target=80,protocol=@", none}, {"port add web target=80,host-ip=@", []string{"::", "0.0.0.0", "127.0.0.1"}},
		{"port add web target=80,from=@", []string{"::", "10.9.9.9", "fd00::9", "0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "ff02::1"}},
		{"port add web target=80,mode=@", none}, {"port rm @ 80", none}, {"port rm web @", none},
		{"port ls @", none}, {"port ls web @", none}, {"port ls --output @", none}, {"port ls --format @", anything()},
		{"apply @", none}, {"apply --file @", none}, {"plan @", none}, {"plan --file @", none}, {"diff @", none},
		{"apply --file /dev/null --stack @", none}, {"plan --file /dev/null --stack @", none},
		{"stack @", none}, {"stack ls @", none}, {"stack ls --quiet=@", asBool}, {"stack ls --output @", none}, {"stack ls --format @", anything()}, {"stack rm @", none}, {"explain @ web", none}, {"explain web netns:@", none}, {"explain --backend @ web web", none}, {"explain --output @ web web", none}, {"explain --format @ web web", anything()}, {"trace @ web", none}, {"trace web netns:@", none}, {"trace --timeout @ web web", none}, {"trace --output @ web web", none}, {"trace --format @ web web", anything()}, {"doctor @", none}, {"doctor --output @", none}, {"doctor --format @", anything()}, {"events @", none}, {"events --since @ --until 0s", []string{"0", "65536"}}, {"events --until @", []string{"0", "65536"}}, {"events --filter @ --until 0s", none}, {"events --output @ --until 0s", none}, {"events --format @ --until 0s", anything()}, {"version @", none}, {"cni @", none},
		{"uplink attach @ br0", none}, {"uplink attach eth0 @", none}, {"uplink attach --timeout @ eth0 br0", none},
		{"uplink detach @", none}, {"uplink detach --timeout @ eth0", none},
		// The daemon of these tests is in no cluster and begins none.
		{"cluster init @", none}, {"cluster init --addr @", none}, {"cluster join @ 192.0.2.1", none}, {"cluster join slt1.x @", none},
		{"cluster join --addr @ slt1.x 192.0.2.1", none}, {"cluster token @", none}, {"cluster token --rotate=@", none},
		{"cluster status @", none}, {"cluster status --output @", none}, {"cluster status --format @", none},
		{"cluster leave @", none}, {"cluster leave --force=@", none},
		{"node ls @", none}, {"node ls --output @", none}, {"node ls --format @", none}, {"node rm @", none},
		{"node inspect @", none}, {"node inspect --output @ b", none}, {"node inspect --format @ b", none},
		{"uplink ls @", none}, {"uplink ls --output @", none}, {"uplink ls --format @", anything()},
	}
	return append(cases, hostileOptions()...)
}

// stage is a daemon with a sandbox and a network that it is not on.
func stage(t *testing.T) *fake.Kernel {
	k := daemon(t)
	k.OpenVSwitch(true, true)
	k.Foreign(kstate.NetNS{NS: kstate.NS{Path: "/run/netns/vm", Inode: 77}}, kstate.Link{Name: "up0", Up: true, MTU: 1500})
	for _, line := range []string{"network create --subnet 10.1.0.0/24 app", "run --name web"} {
		if got := sealane("", strings.Fields(line)...); got.status != 0 {
			t.Fatalf("%s: %+v", line, got)
		}
	}
	return k
}

// everything is what the daemon and the kernel have.
func everything(k *fake.Kernel) string {
	return sealane("", "network", "ls", "--format", "{{.ID}} {{.Name}} {{.Driver}} {{json .Options}} {{json .Labels}} {{len .Endpoints}}").out +
		sealane("", "ps", "-a", "--format", "{{.ID}} {{.Name}} {{json .Endpoints}} {{json .Ports}}").out +
		sealane("", "diff").out + k.Dump()
}

// TestHostile says what nobody should say to every flag and argument: one line
// that a terminal can show, the right status, and nothing is changed.
func TestHostile(t *testing.T) {
	for _, c := range hostileCases() {
		t.Run(strings.ReplaceAll(c.line, "/", "|"), func(t *testing.T) {
			k := stage(t)
			before := everything(k)
			var refused []string // since then
			for _, v := range hostile() {
				var args []string
				for f := range strings.FieldsSeq(c.line) {
					args = append(args, strings.ReplaceAll(f, "@", v))
				}
				takes := slices.Contains(c.takes, v)
				if takes {
					compare(t, refused, before, everything(k))
				}
				got := sealane("", args...)
				if takes != (got.status == 0) {
					t.Errorf("%.40q: %+v; is it to be taken? %v", v, got, takes)
				}
				if got.status != 0 {
					checkRefusal(t, args[0], v, got)
					refused = append(refused, fmt.Sprintf("%.40q", v))
				} else if after := everything(k); after != before {
					k, refused = stage(t), nil
					before = everything(k)
				}
			}
			compare(t, refused, before, everything(k))
		})
	}
}

func compare(t *testing.T, refused []string, before, after string) {
	t.Helper()
	if after != before {
		t.Errorf("one of %s leaves traces:\n%s\nbefore:\n%s", refused, after, before)
	}
}

func checkRefusal(t *testing.T, command, value string, got result) {
	t.Helper()
	text, whole := strings.CutSuffix(got.err, "\n")
	bad := !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) })
	cause, ours := strings.CutPrefix(text, "sealane: ")
	if !whole || bad || !ours || cause == "" || len(text) > 2100 {
		t.Errorf("%.40q: want one short line: %q", value, got.err)
	}
	if got.out != "" && got.out != "[]\n" {
		t.Errorf("%.40q: something on stdout: %q", value, got.out)
	}
	runs := command == "run" || command == "exec"
	if runs != (got.status == 125) || !runs && got.status != 1 && got.status != 2 {
		t.Errorf("%.40q: status %d: %s", value, got.status, text)
	}
}

// TestHostileIsWhole checks that no flag is without a case.
func TestHostileIsWhole(t *testing.T) {
	var lines []string
	for _, c := range hostileCases() {
		lines = append(lines, c.line)
	}
	flag := regexp.MustCompile(`(?m)^  (?:-\w, |    )(--[a-z0-9-]+)`)
	commands := regexp.MustCompile(`(?m)^  ([a-z]+)  +\S`)
	var visit func(path string)
	visit = func(path string) {
		page := sealane("", append(strings.Fields(path), "--help")...).out
		_, list, group := strings.Cut(page, "\nCommands:\n")
		if group {
			list, _, _ = strings.Cut(list, "\n\n")
			for _, m := range commands.FindAllStringSubmatch(list, -1) {
				if m[1] != "daemon" && m[1] != "pipework" { // which refuse what they get themselves, and are tested so
					visit(strings.TrimSpace(path + " " + m[1]))
				}
			}
		}
		for _, m := range flag.FindAllStringSubmatch(page, -1) {
			want := regexp.MustCompile(fmt.Sprintf(`^%s.*%s[ =]`, path, m[1]))
			if !slices.ContainsFunc(lines, want.MatchString) {
				t.Errorf("%s %s: no case", path, m[1])
			}
		}
		if !group && !slices.ContainsFunc(lines, func(l string) bool { return l == path || strings.HasPrefix(l, path+" ") }) {
			t.Errorf("%s: no case", path)
		}
	}
	visit("")
}
