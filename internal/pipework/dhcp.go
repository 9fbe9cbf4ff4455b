package pipework

import (
	"maps"
	"slices"
	"strings"
)

// client is a DHCP client that a command line names. All of them stand for the
// daemon's own, which renews the lease as long as the container has it.
type client struct {
	is6     bool
	options map[string]string // dhcp-…, as the daemon has them
}

// clients are their names. In the script, -f is one that stays to renew.
var clients = []string{"dhcp", "udhcpc", "udhcpc-f", "dhclient", "dhclient-f", "dhcpcd"}

// parseClient reads CLIENT[:OPTIONS], and reports false for what is none.
func parseClient(text string) (*client, bool, error) {
	name, options, _ := strings.Cut(text, ":")
	if !slices.Contains(clients, name) {
		return nil, false, nil
	}
	c := &client{options: map[string]string{}}
	if name == "dhcpcd" {
		return c, true, nil // the script ignores its options
	}
	return c, true, c.read(name, strings.Fields(options))
}

// program is a DHCP client's command line: options that have a meaning here, and
// those that say how the program itself is to run, without and with a value.
type program struct {
	means        map[string]string
	flags, takes []string
	extra        string // the option that has any other, as NAME:VALUE
}

// udhcpc is busybox's.
func udhcpc() program {
	return program{
		means: map[string]string{"-h": "dhcp-hostname", "-H": "dhcp-hostname", "-F": "dhcp-hostname", "-r": "dhcp-request", "-V": "dhcp-vendor-class", "-c": "dhcp-client-id"},
		flags: strings.Fields("-f -b -q -n -R -S -a -B -v -o -C"),
		takes: strings.Fields("-t -T -A -O -s -p -i"),
		extra: "-x",
	}
}

// dhclient is ISC's (dhclient(8)). Of its options -r and -x give an address back, and -S,
// -T and -P ask for something else: they are not known.
func dhclient() program {
	return program{
		means: map[string]string{"-H": "dhcp-hostname", "-F": "dhcp-hostname", "-V": "dhcp-vendor-class", "-C": "dhcp-client-id"},
		flags: strings.Fields("-4 -6 -1 -d -q -v -w -n -nw -N -R -B -i -I --no-pid"),
		takes: strings.Fields("-p -s -g -e -D -cf -df -lf -pf -sf -4o6 -timeout --timeout --request-options --dad-wait-time --decline-wait-time --prefix-len-hint --address-prefix-len"),
	}
}

// read takes the options of a client.
func (c *client) read(name string, words []string) error {
	p := udhcpc()
	if strings.HasPrefix(name, "dhclient") {
		p = dhclient()
		c.is6 = slices.Contains(words, "-6")
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case slices.Contains(p.flags, w):
			continue
		case i+1 == len(words):
			return failf("pipework: %s: option %s: not known, or without its value", name, w)
		case slices.Contains(p.takes, w):
		case w == p.extra:
			if err := c.extra(name, words[i+1]); err != nil {
				return err
			}
		case p.means[w] != "":
			c.options[p.means[w]] = words[i+1]
		default:
			return failf("pipework: %s: option %s: not known (known: %s)", name, w, strings.Join(slices.Sorted(maps.Keys(p.means)), ", "))
		}
		i++
	}
	return nil
}

// extra reads -x NAME:VALUE or -x CODE:HEX.
func (c *client) extra(name, text string) error {
	key, value, ok := strings.Cut(text, ":")
	switch {
	case !ok:
		return failf("pipework: %s: -x %s: want NAME:VALUE", name, text)
	case key == "hostname":
		c.options["dhcp-hostname"] = value
	case key == "vendor" || key == "0x3c" || key == "60":
		c.options["dhcp-vendor-class"] = value
	default:
		all := key + ":" + value
		if have := c.options["dhcp-option"]; have != "" {
			all = have + "," + all
		}
		c.options["dhcp-option"] = all
	}
	return nil
}

// String is the client with its options, in order.
func (c *client) String() string {
	var words []string
	for _, o := range [][2]string{{"-h", "dhcp-hostname"}, {"-r", "dhcp-request"}, {"-V", "dhcp-vendor-class"}, {"-c", "dhcp-client-id"}} {
		if v, ok := c.options[o[1]]; ok {
			words = append(words, o[0], v)
		}
	}
	if more := c.options["dhcp-option"]; more != "" {
		for one := range strings.SplitSeq(more, ",") {
			words = append(words, "-x", one)
		}
	}
	if len(words) == 0 {
		return dhcp
	}
	return dhcp + ":" + strings.Join(words, " ")
}
