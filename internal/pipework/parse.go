package pipework

import (
	"crypto/md5"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// verb is what a command line asks for.
type verb int

const (
	connect verb = iota
	undo
	list
	wait
	inside // a command of ip or tc in the container
)

// command is a command line, read.
type command struct {
	verb   verb
	device string   // the host's, as it was written: br1, mac:52:54:00:…
	driver string   // "" is what the device is, or its name says
	ifName string   // in the container
	alias  string   // of the host's end
	guest  string   // as it was written
	addrs  []string // ADDRESS/BITS
	via    []string // routers, at most one of each family
	client *client  // a DHCP client instead of addresses
	mac    string
	vlan   int
	args   []string // inside: the tool and its arguments
	undone bool     // inside: it is to be undone
	whole  bool     // undo: a command as it was
}

// failure is what a user reads, in one or several lines, before an exit status.
type failure struct {
	text   string
	stdout bool
	status int // 0 is 1
}

// The exit statuses that the script has from ip, which it ends with.
const (
	kernelRefuses = 2   // what ip has asked the kernel for
	ipRefuses     = 255 // a word on ip's command line
)

// Error is the text.
func (f *failure) Error() string { return f.text }

func failf(format string, args ...any) error { return exitf(1, format, args...) }

func exitf(status int, format string, args ...any) error {
	return &failure{text: fmt.Sprintf(format, args...), status: status}
}

// usage is the answer to a command line that lacks something.
const usage = `Syntax:
  pipework HOSTDEVICE [OPTIONS] GUEST ADDRESS/BITS[@GATEWAY][,…] [MAC][@VLAN]
  pipework HOSTDEVICE [OPTIONS] GUEST dhcp [MAC][@VLAN]
  pipework route|rule|tc GUEST ARGUMENTS
  pipework --wait [-i INTERFACE]
  pipework --undo HOSTDEVICE [-i INTERFACE] GUEST [ADDRESS/BITS…]
  pipework --undo route|rule|tc GUEST ARGUMENTS
  pipework --list
HOSTDEVICE: a bridge, a NIC (macvlan), ipvlan:NIC, phys:NIC, mac:ADDRESS of a NIC, ovsNAME, dummy
OPTIONS:    -i INTERFACE in the container (eth1)   -l NAME of the host's end
            -a 4|6 family of dhcp                  --direct-phys: the NIC itself goes into the container
GUEST:      a container of Docker or LXC, docker:NAME, podman:NAME, containerd:NS/ID, lxc:NAME, machine:NAME, pid:N, netns:PATH`

func syntax() error { return &failure{text: usage, stdout: true} }

// tools are what is run in a container, by their first argument.
var tools = map[string][]string{"route": {"ip", "route"}, "rule": {"ip", "rule"}, "tc": {"tc"}}

// parse reads a command line without the program's name. Options may be anywhere
// but after the guest of route, rule and tc, whose arguments are others'.
func parse(args []string) (*command, error) {
	for _, a := range args {
		if strings.ContainsAny(a, "\x00\n\r") || len(a) > 4096 {
			return nil, failf("pipework: %.40q: want one line", a)
		}
	}
	r := reader{}
	if err := r.split(args); err != nil {
		return nil, err
	}
	return r.command()
}

// reader takes a command line apart.
type reader struct {
	words  []string
	ifName string
	alias  string
	family string
	direct bool
	verb   verb
	chosen bool // verb is given
}

func (r *reader) split(args []string) error {
	for i := 0; i < len(args); i++ {
		if len(r.words) == 2 && tools[r.words[0]] != nil {
			r.words = append(r.words, args[i:]...)
			return nil
		}
		a := args[i]
		if value := r.option(a); value != nil {
			if i++; i == len(args) || *value != "" {
				return syntax()
			}
			*value = args[i]
			continue
		}
		if known, err := r.flag(a); known || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if len(r.words) == 0 && r.verb != undo { // a device that is gone can be undone
			a = pseudo(a)
		}
		r.words = append(r.words, a)
	}
	return nil
}

// pseudo returns the tool that a first word begins with, as the script has it, unless there
// is such a device; or the word.
func pseudo(word string) string {
	for name := range tools {
		if !strings.HasPrefix(word, name) || checkName(word) != "" {
			continue
		}
		if _, err := os.Stat("/sys/class/net/" + word); err != nil {
			return name
		}
	}
	return word
}

// option returns where the value of an option goes, or nil.
func (r *reader) option(a string) *string {
	switch a {
	case "-i":
		return &r.ifName
	case "-l":
		return &r.alias
	case "-a":
		return &r.family
	}
	return nil
}

func (r *reader) flag(a string) (bool, error) {
	verbs := map[string]verb{"--wait": wait, "--undo": undo, "--list": list}
	v, known := verbs[a]
	switch {
	case known && r.chosen:
		return true, syntax()
	case known:
		r.verb, r.chosen = v, true
	case a == "--direct-phys":
		r.direct = true
	case strings.HasPrefix(a, "-") && len(r.words) > 0:
		return true, failf("pipework: option %s: not known", a)
	default:
		return false, nil
	}
	return true, nil
}

func (r *reader) command() (*command, error) {
	c := &command{verb: r.verb, alias: r.alias, ifName: r.ifName}
	if c.verb == wait {
		c.alias = "" // and whatever else: the script looks at -i alone
	}
	if c.verb == list && (len(r.words) > 0 || r.direct || r.alias != "" || r.family != "" || r.ifName != "") {
		return nil, syntax()
	}
	switch {
	case c.verb == wait || c.verb == list:
		return c, checkNames(c)
	case len(r.words) < 2 || len(r.words) == 2 && c.verb == connect:
		return nil, syntax()
	case strings.HasPrefix(r.words[0], "-"):
		return nil, failf("I do not know how to setup interface %s.", r.words[0])
	case tools[r.words[0]] != nil:
		return r.inside(c)
	}
	if err := r.hostDevice(c); err != nil {
		return nil, err
	}
	c.guest = r.words[1]
	rest := r.words[2:]
	switch {
	case c.guest == "" || len(rest) == 0 && c.verb != undo || len(rest) > 2:
		return nil, syntax()
	case len(rest) == 0:
		return c, checkNames(c)
	}
	c.whole = c.verb == undo
	if err := c.address(rest[0], r.family); err != nil {
		return nil, err
	}
	if len(rest) == 2 {
		if err := c.hardware(rest[1]); err != nil {
			return nil, err
		}
	}
	return c, checkNames(c)
}

// inside reads what is to be run in a container.
func (r *reader) inside(c *command) (*command, error) {
	if len(r.words) < 3 || r.direct || r.ifName != "" || r.alias != "" {
		return nil, syntax()
	}
	c.undone, c.verb, c.guest = r.verb == undo, inside, r.words[1]
	tool := tools[r.words[0]]
	if r.family != "" {
		is6, err := family(r.family)
		if err != nil {
			return nil, err
		}
		tool = slices.Insert(slices.Clone(tool), 1, map[bool]string{false: "-4", true: "-6"}[is6])
	}
	c.args = slices.Concat(tool, r.words[2:])
	return c, nil
}

// The forms that say what a NIC is used for. No device has a colon in its name.
var forms = map[string]string{"macvlan:": "macvlan", "ipvlan:": "ipvlan", "phys:": "phys"}

// hostDevice reads the first word.
func (r *reader) hostDevice(c *command) error {
	c.device = r.words[0]
	for prefix, driver := range forms {
		if name, ok := strings.CutPrefix(c.device, prefix); ok {
			c.device, c.driver = name, driver
		}
	}
	if r.direct {
		if c.driver != "" && c.driver != "phys" {
			return failf("--direct-phys and %s:%s exclude each other.", c.driver, c.device)
		}
		c.driver = "phys"
	}
	if mac, ok := strings.CutPrefix(c.device, macPrefix); ok {
		hw, err := parseMAC(mac)
		if err != nil {
			return failf("%v", err) // which is not ip's to say
		}
		c.device = macPrefix + hw
		return nil
	}
	if why := checkName(c.device); why != "" {
		return failf("pipework: %s", why)
	}
	return nil
}

const macPrefix = "mac:"

// checkNames looks at the names of interfaces and sets those that were left out.
func checkNames(c *command) error {
	if c.ifName == "" && (c.verb != undo || c.whole) && c.verb != list {
		c.ifName = "eth1"
	}
	for _, name := range []string{c.ifName, c.alias} {
		if why := checkName(name); name != "" && why != "" {
			return exitf(ipRefuses, "pipework: %s", why)
		}
	}
	return nil
}

// checkName says why a device cannot have a name, or nothing.
func checkName(name string) string {
	if name == "" || name == "." || name == ".." || len(name) > 15 || strings.ContainsAny(name, "/: \t%") {
		return fmt.Sprintf("interface %q: want 1 to 15 characters without / : %% and spaces", name)
	}
	return ""
}

// address reads ADDRESS/BITS[@GATEWAY],… or the name of a DHCP client. 0/0 is no
// address.
func (c *command) address(text, fam string) error {
	is6, err := family(fam)
	if err != nil {
		return err
	}
	if dhcp, ok, err := parseClient(text); ok || err != nil {
		if err == nil {
			dhcp.is6 = dhcp.is6 || is6
			c.client = dhcp
		}
		return err
	}
	for one := range strings.SplitSeq(text, ",") {
		if err := c.oneAddress(one, fam, is6); err != nil {
			return err
		}
	}
	return nil
}

func (c *command) oneAddress(text, fam string, is6 bool) error {
	text, via, _ := strings.Cut(text, "@")
	via, _, _ = strings.Cut(via, "@") // what follows is nothing to the script either
	ip, bits, masked := strings.Cut(text, "/")
	if !masked {
		return failf("The IP address should include a netmask.\nMaybe you meant %s/%d ?", ip, map[bool]int{false: 24, true: 64}[strings.Contains(ip, ":")])
	}
	a, err := netip.ParseAddr(padded(ip))
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return notAddress(ip)
	}
	n, ok := length(bits, a)
	switch {
	case ok && a.IsUnspecified() && (a.Is4() || n == 0): // the kernel gives nothing for it
		return c.gateway(via)
	case ok && n == 0:
		return failf("pipework: %s: no way would lead to anybody, or to all (%s/%d is an address without a subnet)", text, a, a.BitLen())
	case !ok:
		return failf("pipework: %q: want ADDRESS/BITS, as 192.168.1.1/24", text)
	}
	if fam != "" && a.Is6() != is6 {
		return failf("pipework: address %s: -a %s says otherwise", text, fam)
	}
	c.addrs = append(c.addrs, netip.PrefixFrom(a, n).String())
	if via != "" && strings.Contains(via, ":") != a.Is6() {
		return failf("pipework: gateway %s: is of another family than %s", via, text)
	}
	return c.gateway(via)
}

// gateway takes what is after @, which may be nothing.
func (c *command) gateway(via string) error {
	if via == "" {
		return nil
	}
	gw, err := netip.ParseAddr(via)
	switch {
	case err != nil || gw.Zone() != "" || gw.Is4In6():
		return notAddress(via)
	case slices.ContainsFunc(c.via, func(v string) bool { return strings.Contains(v, ":") == gw.Is6() }):
		return failf("pipework: gateway %s: is the second of its family", gw)
	}
	c.via = append(c.via, gw.String())
	return nil
}

// padded is an IPv4 address with all its numbers: those that are left out at its end
// are 0, as ip(8) has them.
func padded(ip string) string {
	if dots := strings.Count(ip, "."); dots < 3 && ip != "" && !strings.Contains(ip, ":") {
		return ip + strings.Repeat(".0", 3-dots)
	}
	return ip
}

// length reads how many bits of an address are the subnet's: a number, or a mask.
func length(text string, a netip.Addr) (int, bool) {
	if mask, err := netip.ParseAddr(text); err == nil && a.Is4() && mask.Is4() {
		n, size := net.IPMask(mask.AsSlice()).Size()
		return n, size > 0
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0 && n <= a.BitLen() && !octal(text)
}

// octal reports whether ip(8) reads a number of an address with eight digits: 010 is
// 8 to it, and hardly so meant.
func octal(number string) bool { return len(number) > 1 && number[0] == '0' }

func notAddress(text string) error {
	if slices.ContainsFunc(strings.Split(text, "."), octal) && !strings.Contains(text, ":") {
		return failf("pipework: %q: want an IP address, without a 0 or 0x before its numbers", text)
	}
	return failf("pipework: %q: want an IP address", text)
}

// family reads -a as ip(8) takes it, and as pipework's manual has it.
func family(text string) (is6 bool, err error) {
	switch text {
	case "", "4", "inet":
		return false, nil
	case "6", "inet6":
		return true, nil
	}
	return false, exitf(ipRefuses, "pipework: -a %q: want 4, 6, inet or inet6", text)
}

// hardware reads MAC, U:TEXT, @VLAN, or one of the first two with @VLAN.
func (c *command) hardware(text string) error {
	mac, vlan, _ := strings.Cut(text, "@")
	if vlan, _, _ = strings.Cut(vlan, "@"); vlan != "" {
		n, err := strconv.Atoi(vlan)
		switch {
		case err != nil || n < 1 || n > 4094:
			return failf("pipework: VLAN %q: want 1 to 4094", vlan)
		case vlan != strconv.Itoa(n): // 010 is 8 to ip(8)
			return failf("pipework: VLAN %q: want 1 to 4094, without a 0 before it", vlan)
		}
		c.vlan = n
	}
	if name, ok := strings.CutPrefix(mac, "U:"); ok {
		c.mac = named(name)
		return nil
	}
	if mac == "" {
		return nil
	}
	var err error
	c.mac, err = parseMAC(mac)
	return err
}

// named is the hardware address that U:TEXT stands for: 02 and the first five
// bytes of the digest of the text as echo(1) prints its words.
func named(text string) string {
	sum := md5.Sum([]byte(strings.Join(strings.Fields(text), " ") + "\n"))
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
}

// parseMAC reads a hardware address as ip(8) does, which takes a:b:c:d:e:f.
func parseMAC(text string) (string, error) {
	parts := strings.Split(text, ":")
	bad := failf("pipework: hardware address %q: want six bytes, as 52:54:00:12:34:56", text)
	if len(parts) != 6 {
		return "", bad
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 16, 8)
		switch {
		case err != nil || len(p) > 2:
			return "", bad
		case i == 0 && n&1 != 0:
			return "", exitf(kernelRefuses, "pipework: hardware address %q: is of a group", text)
		}
		parts[i] = fmt.Sprintf("%02x", n)
	}
	mac := strings.Join(parts, ":")
	if mac == "00:00:00:00:00:00" {
		return "", exitf(kernelRefuses, "pipework: hardware address %q: is nobody's", text)
	}
	return mac, nil
}
