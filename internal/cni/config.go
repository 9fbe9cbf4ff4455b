package cni

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sealane/sealane/internal/api"
)

// maxConfig is the longest configuration in bytes: it becomes a request.
const maxConfig = api.MaxBody / 2

// reserved begins the keys that the specification keeps for itself.
const reserved = "cni.dev/"

// config is a network's configuration, read and checked.
type config struct {
	version  string
	network  api.NetworkSpec // with the name; what to make where it is not there
	families families
	socket   string
	dns      types.DNS
	runtime  runtimeConfig
	args     conventions
	resolver bool     // containers find each other by name
	services []string // that containers are backends of
	prev     json.RawMessage
	valid    *[]attachment // of GC; nil without the key
}

// attachment is one that a runtime still has.
type attachment struct {
	Container string `json:"containerID"`
	IfName    string `json:"ifname"`
}

// conventions is the key args: what tools pass through any runtime.
type conventions struct {
	CNI struct {
		IPs     []string `json:"ips"`
		Labels  []any    `json:"labels"` // are for people
		Service string   `json:"sealane.service"`
	} `json:"cni"`
}

// key is one key of a configuration, and how it is read.
type key struct {
	name string
	read func(*config, json.RawMessage) error
}

// readConfig reads a configuration. A lax one is read only as far as is needed
// to take things away.
func readConfig(r io.Reader, lax bool) (*config, error) {
	c := &config{}
	text, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	switch {
	case err != nil:
		return c, errorf(codeIO, "configuration: read: %w", err)
	case len(text) > maxConfig:
		return c, errorf(codeDecode, "configuration: longer than %d bytes", maxConfig)
	case len(bytes.TrimSpace(text)) == 0:
		return c, errorf(codeDecode, "configuration: empty: want a JSON object")
	}
	var values map[string]json.RawMessage
	err = json.Unmarshal(text, &values)
	if _, other := errors.AsType[*json.UnmarshalTypeError](err); other || err == nil && values == nil {
		return c, errorf(codeDecode, "configuration: not a JSON object")
	}
	if err != nil {
		return c, errorf(codeDecode, "configuration: not a JSON object: %w", err)
	}
	if err := c.readVersion(values); err != nil {
		return c, err
	}
	if err := c.readKeys(values, lax); err != nil {
		return c, err
	}
	if c.network.Name == "" {
		return c, errorf(codeConfig, "name: missing: it is the network's")
	}
	return c, nil
}

func (c *config) readVersion(values map[string]json.RawMessage) error {
	var asked string
	if err := fill(&asked, values["cniVersion"]); err != nil {
		return errorf(codeConfig, "cniVersion: %w", err)
	}
	if !slices.Contains(versions(), asked) {
		return errorf(codeVersion, "cniVersion %q: not supported (supported: %s)", asked, strings.Join(versions(), ", "))
	}
	c.version = asked
	return nil
}

// spoken is the version to answer in.
func (c *config) spoken() string { return cmp.Or(c.version, newest) }

func (c *config) readKeys(values map[string]json.RawMessage, lax bool) error {
	known := keys()
	if lax {
		known = keysToRemove()
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		i := slices.IndexFunc(known, func(k key) bool { return k.name == name })
		switch {
		case i >= 0:
			if err := known[i].read(c, values[name]); err != nil {
				return inKey(name, err)
			}
		case !lax && !strings.HasPrefix(name, reserved):
			return unsupported("key", name, values[name], ours())
		}
	}
	if lax {
		return nil
	}
	return c.families.into(&c.network)
}

// unsupported refuses a field, in the words that the specification demands: its name
// and its value.
func unsupported(what, name string, v json.RawMessage, known []string) error {
	return errorf(codeField, "%s %q: not known (known: %s); its value is %s", what, name, strings.Join(known, ", "), brief(v))
}

// brief is a value in one line that people read.
func brief(v json.RawMessage) string {
	const most = 200
	var line bytes.Buffer
	if err := json.Compact(&line, v); err != nil {
		return "not JSON"
	}
	if line.Len() > most {
		return strings.ToValidUTF8(string(line.Bytes()[:most]), "") + "…"
	}
	return line.String()
}

// inKey says where an error is. It is one of the configuration unless it says
// otherwise.
func inKey(name string, err error) error {
	if e, ok := errors.AsType[*coded](err); ok {
		return errorf(e.code, "%s: %w", name, e.err)
	}
	return errorf(codeConfig, "%s: %w", name, err)
}

// keysToRemove are the keys that DEL and GC look at.
func keysToRemove() []key {
	return []key{
		{"name", func(c *config, v json.RawMessage) error { return fill(&c.network.Name, v) }},
		{"socket", func(c *config, v json.RawMessage) error { return fill(&c.socket, v) }},
		{reserved + "valid-attachments", func(c *config, v json.RawMessage) error {
			c.valid = &[]attachment{}
			if err := fill(c.valid, v); err != nil {
				return err
			}
			for _, a := range *c.valid {
				if a.Container == "" || a.IfName == "" { // which would spare nothing
					return fmt.Errorf("container %q, interface %q: want both", a.Container, a.IfName)
				}
			}
			return nil
		}},
	}
}

// keys are all keys.
func keys() []key {
	return slices.Concat(keysToRemove(), runtimeKeys(), networkKeys(), bridgeKeys())
}

// runtimeKeys are the keys of the specification.
func runtimeKeys() []key {
	skip := func(*config, json.RawMessage) error { return nil }
	return []key{
		{"cniVersion", skip}, {"type", skip}, {"capabilities", skip}, {"disableCheck", skip}, {"disableGC", skip},
		{"prevResult", func(c *config, v json.RawMessage) error { c.prev = v; return nil }},
		{"dns", func(c *config, v json.RawMessage) error { return fill(&c.dns, v) }},
		{"args", func(c *config, v json.RawMessage) error { return fill(&c.args, v) }},
		{"ipMasq", func(c *config, v json.RawMessage) error { return c.boolOption("masquerade", v) }},
		{"ipam", readIPAM},
		{"runtimeConfig", readRuntime},
	}
}

// ours are the keys that this plugin adds to the specification's.
func ours() []string {
	var names []string
	for _, k := range slices.Concat(networkKeys(), bridgeKeys()) {
		names = append(names, k.name)
	}
	return append(names, "socket")
}

// fill decodes a value; one that is missing or null leaves v as it is.
func fill(v any, raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	err := json.Unmarshal(raw, v)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at := ""
		if e.Field != "" {
			at = e.Field + ": "
		}
		return fmt.Errorf("%swant %s, not %s", at, wanted(e.Type.Kind()), found(e.Value))
	}
	return err
}

// wanted is what a value has to be, in words of JSON.
func wanted(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Uint64:
		return "a whole number from 0"
	}
	return "a whole number"
}

// found is what a value is instead: a kind, or the number itself.
func found(value string) string {
	switch value {
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "bool":
		return "true or false"
	}
	if number, ok := strings.CutPrefix(value, "number "); ok {
		return number
	}
	return "a " + value
}

// socketOr is where the daemon listens: the configuration says, or the
// environment, or it is the usual place.
func (c *config) socketOr(getenv func(string) string) string {
	return cmp.Or(c.socket, getenv("SEALANE_SOCKET"), api.DefaultSocket)
}
