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

// Write writes the file at once, with mode 0644, unless it is there like that.
func (e Env) Write(path string) error {
	text := e.Marshal()
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

// DockerOptions are what mk-docker-opts.sh makes of a subnet.env.
type DockerOptions struct {
	Individual bool   // a variable for each option
	Combined   bool   // one for all; both, if neither is wanted
	Key        string // of the one; "": DOCKER_OPTS
	Before     string // options that it begins with, as the environment has them under Key
	NoIPMasq   bool   // leave --ip-masq out
}

// Docker writes the variables that systemd reads for dockerd, as that script does:
// in the order of their names, with a space before each option.
func (e Env) Docker(o DockerOptions) []byte {
	if !o.Individual && !o.Combined {
		o.Individual, o.Combined = true, true
	}
	options := [][2]string{}
	if e.Subnet.V4.IsValid() {
		options = append(options, [2]string{"BIP", "--bip=" + first(e.Subnet.V4).String()})
	}
	if !o.NoIPMasq {
		options = append(options, [2]string{"IPMASQ", fmt.Sprintf("--ip-masq=%t", !e.IPMasq)})
	}
	if e.MTU != 0 {
		options = append(options, [2]string{"MTU", fmt.Sprintf("--mtu=%d", e.MTU)})
	}
	var b strings.Builder
	all := o.Before
	if all != "" {
		all += " "
	}
	for _, x := range options {
		if o.Individual {
			fmt.Fprintf(&b, "DOCKER_OPT_%s=\"%s\"\n", x[0], x[1])
		}
		all += " " + x[1]
	}
	if o.Combined {
		fmt.Fprintf(&b, "%s=\"%s\"\n", cmp.Or(o.Key, "DOCKER_OPTS"), all)
	}
	return []byte(b.String())
}
