package model

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Options are a network's driver options, typed. They are set by name with
// ParseOptions; nothing else carries options by name.
type Options struct {
	Device  string `json:"name,omitempty"`    // the bridge; one that exists is adopted and left alone afterwards
	MTU     int    `json:"mtu,omitempty"`     // bytes; 0 until resolved at creation
	NoICC   bool   `json:"noICC,omitempty"`   // containers of the network may not talk to each other
	NoMasq  bool   `json:"noMasq,omitempty"`  // packets leave with the container's own address
	Adopted bool   `json:"adopted,omitempty"` // set at creation: the device was there before us
}

// option is one -o key.
type option struct {
	name    string   // ours
	drivers []string // that know it
	aliases []string // Docker's names
	set     func(*Options, string) error
}

var optionTable = []option{
	{"icc", []string{"bridge"}, []string{"com.docker.network.bridge.enable_icc"},
		func(o *Options, v string) (err error) { o.NoICC, err = not(v); return }},
	{"masquerade", []string{"bridge"}, []string{"com.docker.network.bridge.enable_ip_masquerade"},
		func(o *Options, v string) (err error) { o.NoMasq, err = not(v); return }},
	{"mtu", []string{"bridge"}, []string{"com.docker.network.driver.mtu"},
		func(o *Options, v string) (err error) {
			if o.MTU, err = strconv.Atoi(v); err != nil || o.MTU < 68 || o.MTU > 65535 {
				return fmt.Errorf("%q: want 68 to 65535 bytes", v)
			}
			return nil
		}},
	{"name", []string{"bridge"}, []string{"com.docker.network.bridge.name"},
		func(o *Options, v string) error { o.Device = v; return CheckIfName(v) }},
}

// not reads a boolean as Docker does and negates it.
func not(v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("%q: want true or false", v)
	}
	return !b, nil
}

// ParseOptions reads -o KEY=VALUE pairs for a driver. An unknown key is an
// error that lists the known ones; nothing is ignored.
func ParseOptions(driver string, kv map[string]string) (Options, error) {
	var o Options
	for _, k := range slices.Sorted(maps.Keys(kv)) {
		op := findOption(driver, k)
		if op == nil {
			return Options{}, fmt.Errorf("option %q: not known to driver %s, which knows %s", k, driver, strings.Join(optionNames(driver), ", "))
		}
		if err := op.set(&o, kv[k]); err != nil {
			return Options{}, fmt.Errorf("option %s: %w", k, err)
		}
	}
	return o, nil
}

// OptionName returns our short name of an option that may be under one of
// Docker's, or "" for one that the driver does not know.
func OptionName(driver, key string) string {
	if op := findOption(driver, key); op != nil {
		return op.name
	}
	return ""
}

func findOption(driver, key string) *option {
	i := slices.IndexFunc(optionTable, func(op option) bool {
		return slices.Contains(op.drivers, driver) && (op.name == key || slices.Contains(op.aliases, key))
	})
	if i < 0 {
		return nil
	}
	return &optionTable[i]
}

func optionNames(driver string) []string {
	var names []string
	for _, op := range optionTable {
		if slices.Contains(op.drivers, driver) {
			names = append(names, op.name)
		}
	}
	return names
}

// Validate reports the first option that is impossible.
func (o Options) Validate() error {
	if o.Device != "" {
		return CheckIfName(o.Device)
	}
	return nil
}

// Map returns the options by their short names, for people and JSON.
func (o Options) Map() map[string]string {
	m := map[string]string{"icc": strconv.FormatBool(!o.NoICC), "masquerade": strconv.FormatBool(!o.NoMasq)}
	if o.MTU != 0 {
		m["mtu"] = strconv.Itoa(o.MTU)
	}
	if o.Device != "" {
		m["name"] = o.Device
	}
	return m
}
