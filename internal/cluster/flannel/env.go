package flannel

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// EnvFile is where flanneld writes its subnet.env.
const EnvFile = "/run/flannel/subnet.env"

// Env is what a subnet.env tells others of this host's subnet: what starts Docker,
// and Flannel's CNI plugin.
type Env struct {
	Network4 netip.Prefix // zero without IPv4
	Network6 netip.Prefix
	Subnet   Subnet
	MTU      int  // of the containers' devices
	IPMasq   bool // the host masquerades what leaves the fabric, so Docker need not
}

// Marshal writes it as flanneld does: of the subnets, their first address.
func (e Env) Marshal() []byte {
	var b strings.Builder
	if e.Network4.IsValid() {
		fmt.Fprintf(&b, "FLANNEL_NETWORK=%s\nFLANNEL_SUBNET=%s\n", e.Network4, first(e.Subnet.V4))
	}
	if e.Network6.IsValid() {
		fmt.Fprintf(&b, "FLANNEL_IPV6_NETWORK=%s\nFLANNEL_IPV6_SUBNET=%s\n", e.Network6, first(e.Subnet.V6))
	}
	fmt.Fprintf(&b, "FLANNEL_MTU=%d\nFLANNEL_IPMASQ=%t\n", e.MTU, e.IPMasq)
	return []byte(b.String())
}

// first is the address behind a subnet's own, with its length.
func first(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr().Next(), p.Bits()) }

// ParseEnv reads a subnet.env; names that are none of its are skipped.
func ParseEnv(text []byte) (Env, error) {
	var e Env
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		var err error
		switch value = strings.Trim(value, `"'`); name {
		case "FLANNEL_NETWORK":
			e.Network4, err = prefix(value, 32)
		case "FLANNEL_IPV6_NETWORK":
			e.Network6, err = prefix(value, 128)
		case "FLANNEL_SUBNET":
			e.Subnet.V4, err = prefix(value, 32)
		case "FLANNEL_IPV6_SUBNET":
			e.Subnet.V6, err = prefix(value, 128)
		case "FLANNEL_MTU":
			e.MTU, err = strconv.Atoi(value)
		case "FLANNEL_IPMASQ":
			e.IPMasq, err = strconv.ParseBool(value)
		}
		if err != nil {
			return Env{}, fmt.Errorf("%s: %q: no such value", name, value)
		}
	}
	return e, nil
}

// prefix reads the prefix that an address with a length is of.
func prefix(text string, bits int) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err == nil && (p.Addr().BitLen() != bits || p.Addr().Is4In6()) {
		err = errors.New("of the other family")
	}
	return p.Masked(), err
}

// ReadEnv reads a file; the error is fs.ErrNotExist where there is none.
func ReadEnv(path string) (Env, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Env{}, err
	}
	e, err := ParseEnv(text)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return e, err
}

// WriteFile writes a file at once, with mode 0644, unless it is there like that.
func WriteFile(path string, text []byte) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) {
		return nil
	}
	return replace(path, text)
}

// replace writes a file that readers see as it was or as it will be.
func replace(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err1 := f.Write(text)
	err = cmp.Or(err1, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, ignoreGone(os.Remove(f.Name())))
	}
	return err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Docker writes what starts Docker with the subnet, as mk-docker-opts.sh does of a
// subnet.env: a variable for each option, and all of them under both names that are
// usual. Docker's bridge has IPv6 by an option that the script does not know.
func (e Env) Docker() []byte {
	var b, all strings.Builder
	add := func(name, option string) {
		fmt.Fprintf(&b, "DOCKER_OPT_%s=\"%s\"\n", name, option)
		all.WriteString(" " + option)
	}
	if e.Subnet.V4.IsValid() {
		add("BIP", "--bip="+first(e.Subnet.V4).String())
	}
	if e.Subnet.V6.IsValid() {
		add("IPV6", "--ipv6 --fixed-cidr-v6="+e.Subnet.V6.String())
	}
	add("IPMASQ", fmt.Sprintf("--ip-masq=%t", !e.IPMasq))
	add("MTU", fmt.Sprintf("--mtu=%d", e.MTU))
	for _, name := range []string{"DOCKER_OPTS", "DOCKER_NETWORK_OPTIONS"} {
		fmt.Fprintf(&b, "%s=\"%s\"\n", name, all.String())
	}
	return []byte(b.String())
}
