package main

import (
	"fmt"
	"slices"
	"strings"
)

// checks are all of them, in the order of the report. Those of the service come
// last: they end it.
func checks() []check {
	return slices.Concat(versionChecks(), configChecks(), environmentChecks(), addChecks(), resultChecks(), delChecks(),
		checkChecks(), statusChecks(), gcChecks(), chainChecks(), capabilityChecks(), argumentChecks(), tidyChecks(), serviceChecks())
}

func versionChecks() []check {
	return []check{
		{"version.answer", "VERSION", "should", "VERSION prints `cniVersion` and `supportedVersions`, and nothing else", "", func(t *trial) error {
			_, err := t.announced(`{"cniVersion":"1.0.0"}`)
			return err
		}},
		{"version.echo", "VERSION Success", "must", "the `cniVersion` that VERSION prints is the one it was asked with", "", versionEcho},
		{"version.bare", "VERSION", "sense", "VERSION answers `{}` too", "", func(t *trial) error {
			_, err := t.announced(`{}`)
			return err
		}},
		{"version.silent", "VERSION", "sense", "VERSION with nothing on stdin ends with an answer or an error object", "", func(t *trial) error {
			o := t.exec(call{command: "VERSION", raw: []byte{}})
			if o.code == 0 {
				return one(o.stdout, &announcement{})
			}
			return o.refused(nil)
		}},
		{"version.released", "VERSION Success", "must", "the versions announced are ones that were released", "", versionReleased},
		{"version.incompatible", "Error", "must", "ADD with `cniVersion` 9.9.9 fails with code 1, and makes nothing", "", func(t *trial) error {
			return t.refuses([]uint{1}, version("9.9.9"))
		}},
		{"version.older", "Error", "sense", "ADD with a version that VERSION does not announce fails with code 1", "", versionUnannounced},
		{"version.nonsense", "Error", "must", "ADD with `cniVersion` \"banana\" or 1 fails with code 1, 6 or 7, and makes nothing", "", func(t *trial) error {
			if err := t.refuses([]uint{1, 6, 7}, version("banana")); err != nil {
				return err
			}
			return t.refuses([]uint{1, 6, 7}, key("cniVersion", 1))
		}},
		{"version.missing", "Section 1", "sense", "ADD without `cniVersion` is one of 0.1.0, or fails with an error object", "", versionMissing},
	}
}

// announced executes VERSION.
func (t *trial) announced(in string) (*announcement, error) {
	o := t.exec(call{command: "VERSION", raw: []byte(in)})
	if err := o.succeeded(); err != nil {
		return nil, err
	}
	var keys map[string]any
	if err := one(o.stdout, &keys); err != nil {
		return nil, seen("%v: %v", o, err)
	}
	delete(keys, "cniVersion")
	delete(keys, "supportedVersions")
	var v announcement
	if err := one(o.stdout, &v); err != nil || v.CNIVersion == "" || len(v.SupportedVersions) == 0 || len(keys) > 0 {
		return nil, seen("%v", o)
	}
	return &v, nil
}

func versionEcho(t *trial) error {
	for _, v := range t.versions {
		a, err := t.announced(fmt.Sprintf(`{"cniVersion":%q}`, v))
		if err != nil {
			return err
		}
		if a.CNIVersion != v {
			return seen("asked with %s: %s", v, a.CNIVersion)
		}
	}
	return nil
}

func versionReleased(t *trial) error {
	a, err := t.announced(`{"cniVersion":"1.0.0"}`)
	if err != nil {
		return err
	}
	for _, v := range a.SupportedVersions {
		if !slices.Contains(released, v) {
			return seen("%s was never released", v)
		}
	}
	return aside("%s", strings.Join(a.SupportedVersions, ", "))
}

func versionUnannounced(t *trial) error {
	asked := false
	for _, v := range released {
		if slices.Contains(t.versions, v) {
			continue
		}
		asked = true
		if err := t.refuses([]uint{1}, version(v)); err != nil {
			return fmt.Errorf("%s: %w", v, err)
		}
	}
	if !asked {
		return inapplicable("it announces all of them")
	}
	return nil
}

func versionMissing(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	a := t.attach(n, c, "eth0", func(c *call) { delete(c.conf, "cniVersion") })
	o := a.try()
	if o.code != 0 {
		return o.refused([]uint{1, 6, 7})
	}
	if _, err := parse("0.1.0", o.stdout); err != nil {
		return seen("%v: %v", o, err)
	}
	return nil
}

// refuses says whether ADD on a new network is refused with one of the codes
// and makes nothing.
func (t *trial) refuses(codes []uint, opts ...option) error {
	return t.refusesNaming(codes, nil, opts...)
}

// refusesNaming also wants words in the message.
func (t *trial) refusesNaming(codes []uint, words []string, opts ...option) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	a := t.attach(n, c, "eth0", opts...)
	return t.harmless(a.call("ADD"), codes, words...)
}

// refusesAll does so for one option after another.
func (t *trial) refusesAll(codes []uint, words []string, opts map[string]option) error {
	var wrong []string
	for _, name := range sorted(opts) {
		if err := t.refusesNaming(codes, words, opts[name]); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", name, err))
		}
	}
	if wrong != nil {
		return seen("%s", strings.Join(wrong, " · "))
	}
	return nil
}

// decoding are the codes for what cannot be read.
func decoding() []uint { return []uint{6, 7} }

func configChecks() []check {
	bytes := func(b string) func(*trial) error {
		return func(t *trial) error { return t.refuses(decoding(), raw(b)) }
	}
	return []check{
		{"config.empty", "Error", "should", "ADD with nothing on stdin fails with code 6 or 7, and makes nothing", "", bytes("")},
		{"config.truncated", "Error", "should", "ADD with half of a configuration fails with code 6 or 7, and makes nothing", "", configTruncated},
		{"config.words", "Error", "should", "ADD with words that are no JSON fails with code 6 or 7, and makes nothing", "", bytes("type: bridge\n")},
		{"config.junk", "Error", "should", "ADD with binary junk on stdin fails with code 6 or 7, and makes nothing", "", bytes("\x00\xff\xfe\x7fELF\x00\x01\x80")},
		{"config.no-object", "Error", "should", "ADD with `[]`, `null`, `7` or `\"x\"` on stdin fails with an error object, and makes nothing", "", func(t *trial) error {
			return t.refusesAll(nil, nil, map[string]option{"[]": raw("[]"), "null": raw("null"), "7": raw("7"), `"x"`: raw(`"x"`)})
		}},
		{"config.types", "Error", "should", "ADD with a number for `name`, or a string for `ipam`, fails with code 6 or 7, and makes nothing", "", func(t *trial) error {
			return t.refusesAll(decoding(), nil, map[string]option{"name": key("name", 5), "ipam": key("ipam", "x")})
		}},
		{"config.name-missing", "Section 1", "must", "ADD without `name` fails with code 7, and makes nothing", "", func(t *trial) error {
			return t.refuses([]uint{7}, func(c *call) { delete(c.conf, "name") })
		}},
		{"config.name-illegal", "Section 1", "must", "ADD with a `name` that begins with a dot or hyphen, or has a slash or space, fails with code 7", "", func(t *trial) error {
			opts := map[string]option{}
			for _, name := range []string{"", "../x", "a/b", "-a", "a b"} {
				opts[fmt.Sprintf("%q", name)] = key("name", name)
			}
			return t.refusesAll([]uint{7}, nil, opts)
		}},
		{"config.large", "Section 1", "sense", "a megabyte in `args`, which it may ignore, is accepted", "", func(t *trial) error {
			_, err := t.fresh(key("args", map[string]any{"org.example": strings.Repeat("x", 1<<20)}))
			return err
		}},
		{"config.commands", "Error", "should", "DEL and CHECK with nothing or half an object on stdin fail with code 6 or 7", "0.4.0", configCommands},
		{"config.unknown", "Error", "must", "a field that it does not know is accepted, or refused by code 2 or 7 with the field's name", "", configUnknown},
		{"config.reserved", "Section 1", "must", "it accepts `args`, `runtimeConfig`, keys that begin with `cni.dev/`, and `capabilities`, which libcni leaves in", "", func(t *trial) error {
			_, err := t.fresh(key("args", map[string]any{"org.example": []int{1}}), func(c *call) {
				c.conf["runtimeConfig"] = map[string]any{}
				c.conf["cni.dev/example"] = true
				c.conf["capabilities"] = map[string]bool{"portMappings": true}
			})
			return err
		}},
	}
}

func configTruncated(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c := call{conf: n.conf(t.newest())}
	whole, err := c.input()
	if err != nil {
		return err
	}
	return t.refuses(decoding(), raw(string(whole[:len(whole)/2])))
}

func configCommands(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	for _, command := range []string{"DEL", "CHECK"} {
		for _, in := range []string{"", `{"cniVersion":`} {
			if err := a.later(command, raw(in)).refused(decoding()); err != nil {
				return fmt.Errorf("%s with %q: %w", command, in, err)
			}
		}
	}
	return nil
}

func configUnknown(t *trial) error {
	const name = "fieldOfNobody"
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	a := t.attach(n, c, "eth0", key(name, "x"))
	return a.try().politely([]uint{2, 7}, name)
}

func environmentChecks() []check {
	code4 := []uint{4}
	values := func(name string, list ...string) func(*trial) error {
		return func(t *trial) error { return t.refusesAll(code4, nil, assign(name, list...)) }
	}
	missing := func(name string) func(*trial) error {
		return func(t *trial) error { return t.refuses(code4, unset(name)) }
	}
	return []check{
		{"env.no-command", "Parameters", "must", "without CNI_COMMAND it fails with code 4", "", missing("CNI_COMMAND")},
		{"env.unknown-command", "Parameters", "must", "CNI_COMMAND=FROB, and =add in lower case, fail with code 4", "", values("CNI_COMMAND", "FROB", "add")},
		{"env.no-container", "ADD", "must", "ADD without CNI_CONTAINERID fails with code 4", "", missing("CNI_CONTAINERID")},
		{"env.container-illegal", "Parameters", "must", "ADD with a CNI_CONTAINERID that begins with a hyphen or dot, or has a slash, space, colon or semicolon, fails with code 4", "",
			values("CNI_CONTAINERID", "-a", ".a", "a/b", "../a", "a b", "a:b", "a;b", "a\nb")},
		{"env.no-netns", "ADD", "must", "ADD without CNI_NETNS fails with code 4", "", missing("CNI_NETNS")},
		{"env.no-ifname", "ADD", "must", "ADD without CNI_IFNAME fails with code 4", "", missing("CNI_IFNAME")},
		{"env.ifname-long", "Parameters", "must", "ADD with a CNI_IFNAME of 16 characters, which Linux cannot have, fails with code 4", "", values("CNI_IFNAME", "abcdefghijklmnop")},
		{"env.ifname-dots", "Parameters", "must", "ADD with the CNI_IFNAME `.` or `..` fails with code 4", "", values("CNI_IFNAME", ".", "..")},
		{"env.ifname-characters", "Parameters", "must", "ADD with a slash, colon, space or tab in CNI_IFNAME fails with code 4", "", values("CNI_IFNAME", "a/b", "a:b", "a b", "a\tb")},
		{"env.check-netns", "CHECK", "must", "CHECK without CNI_NETNS fails with code 4", "0.4.0", func(t *trial) error {
			a, err := t.fresh()
			if err != nil {
				return err
			}
			return a.later("CHECK", unset("CNI_NETNS")).refused(code4)
		}},
		{"env.named", "Error", "must", "an error with code 4 has the name of the variable in its words", "", environmentNamed},
		{"env.del", "DEL", "must", "DEL without CNI_CONTAINERID or without CNI_IFNAME fails with code 4", "", environmentDel},
	}
}

// assign gives a variable one of the values after another.
func assign(name string, list ...string) map[string]option {
	opts := map[string]option{}
	for _, v := range list {
		opts[fmt.Sprintf("%s=%q", name, v)] = variable(name, v)
	}
	return opts
}

func environmentNamed(t *trial) error {
	var wrong []string
	for name, bad := range map[string]string{"CNI_COMMAND": "FROB", "CNI_CONTAINERID": "a/b", "CNI_IFNAME": "a/b"} {
		opts := assign(name, bad)
		opts["no "+name] = unset(name)
		if err := t.refusesAll(nil, []string{name}, opts); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	slices.Sort(wrong)
	if wrong != nil {
		return seen("%s", strings.Join(wrong, " · "))
	}
	return t.refusesNaming(nil, []string{"CNI_NETNS"}, unset("CNI_NETNS"))
}

func environmentDel(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	for _, name := range []string{"CNI_CONTAINERID", "CNI_IFNAME"} {
		if err := a.later("DEL", unset(name)).refused([]uint{4}); err != nil {
			return fmt.Errorf("without %s: %w", name, err)
		}
	}
	return nil
}
