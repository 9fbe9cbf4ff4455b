package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/etcd"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/cluster/member"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// clusterSettings are where the other hosts are found. What is not given comes from
// the environment that flanneld reads.
type clusterSettings struct {
	Etcd         string
	Prefix       string
	CA           string
	Cert         string
	Key          string
	Username     string
	PasswordFile string
	NodeAddr     string
	Uplink       string
	SubnetFile   string
	DockerOpts   string
	Bridge       string
	ClientPort   string
	PeerPort     string
	JoinPort     string
	Commands     bool
}

// setting is one of them, for all that goes through them.
type setting struct {
	to             *string
	name, flanneld string // names in its environment, with commas; "" is none of flanneld's
	usual, usage   string
}

func (s *clusterSettings) all() []setting {
	return []setting{
		{&s.Etcd, "etcd", "ETCD_ENDPOINTS", "", "URLs of an etcd that the hosts share, with commas, or file:///PATH of a file that they share; none: this host is alone"},
		{&s.Prefix, "etcd-prefix", "ETCD_PREFIX", flannel.Prefix, "where in it the keys are"},
		{&s.CA, "etcd-cacert", "ETCD_CAFILE", "", "file: who signed etcd's certificates"},
		{&s.Cert, "etcd-cert", "ETCD_CERTFILE", "", "file: the certificate to show to etcd"},
		{&s.Key, "etcd-key", "ETCD_KEYFILE", "", "file: its key"},
		{&s.Username, "etcd-username", "ETCD_USERNAME", "", "who to be at etcd"},
		{&s.PasswordFile, "etcd-password-file", "", "", "file: the password, in its first line"},
		{&s.NodeAddr, "node-addr", "PUBLIC_IP,PUBLIC_IPV6", "", "where other hosts find this one: an IPv4 address, an IPv6 address or both, with a comma (default those of the uplink)"},
		{&s.Uplink, "uplink", "IFACE", "", "the device to the other hosts, or an address that it has (default that of the default route)"},
		{&s.SubnetFile, "subnet-file", "SUBNET_FILE", flannel.EnvFile, "where this host's subnet is told to others, as flanneld does; '' for none"},
		{&s.DockerOpts, "docker-opts", "", "", "file: the options that start Docker with this host's subnet, as mk-docker-opts.sh writes them, such as /run/docker_opts.env"},
		{&s.Bridge, "fabric-bridge", "", "", "the bridge of another program with this host's subnet: docker0 with --docker-opts, or cni0 (default one of Sealane's own)"},
		{&s.ClientPort, "cluster-client-port", "", "2379", "of Sealane's own cluster: where members answer its hosts, by TCP"},
		{&s.PeerPort, "cluster-peer-port", "", "2380", "where members answer each other"},
		{&s.JoinPort, "cluster-join-port", "", "2378", "where members answer hosts that want to join"},
	}
}

// flags makes a flag of each. Its default is what flanneld's environment says.
func (s *clusterSettings) flags(f *pflag.FlagSet) {
	for _, x := range s.all() {
		f.StringVar(x.to, x.name, cmp.Or(fromFlanneld(x.flanneld), x.usual), x.usage)
	}
	f.BoolVar(&s.Commands, "fabric-commands", false, "run the commands of configs with Flannel's backend extension, as root: whoever can write to etcd says which")
}

// flanneldEnv begins the names of flanneld's environment.
const flanneldEnv = "FLANNELD_"

// fromFlanneld is what its environment says under some names, with commas.
func fromFlanneld(names string) string {
	var out []string
	for name := range strings.SplitSeq(names, ",") {
		if text := os.Getenv(flanneldEnv + name); name != "" && text != "" {
			out = append(out, text)
		}
	}
	return strings.Join(out, ",")
}

// unread lists what flanneld's environment says that is of no consequence here.
func (s *clusterSettings) unread() (names []string) {
	known := []string{"ETCD_PASSWORD"}
	for _, x := range s.all() {
		known = append(known, strings.Split(x.flanneld, ",")...)
	}
	for _, entry := range os.Environ() {
		name, is := strings.CutPrefix(entry, flanneldEnv)
		if name, _, _ = strings.Cut(name, "="); is && !slices.Contains(known, name) {
			names = append(names, flanneldEnv+name)
		}
	}
	slices.Sort(names)
	return names
}

// hosts are what the daemon has of the others.
type hosts struct {
	engine engine.Cluster
	own    *member.Host // nil: with --etcd
	close  func()
}

// hosts returns what the engine is to know of the hosts. The engine is asked for when
// there is one.
func (s *settings) hosts(node string, eng func() *engine.Engine, log *slog.Logger) (h hosts, err error) {
	ports, err := s.Cluster.ports()
	if err != nil {
		return h, err
	}
	own := member.New(member.Config{
		Dir: filepath.Join(s.StateDir, "cluster"), Name: node, Prefix: s.Cluster.Prefix, Ports: ports, Now: time.Now, Log: log,
		ID:    func() (string, error) { return eng().NodeID() },
		Addrs: func(ctx context.Context) ([]netip.Addr, error) { return eng().NodeAddrs(ctx) },
		Begin: func() { eng().JoinCluster() },
		End:   func(ctx context.Context, force bool) error { return eng().LeaveCluster(ctx, force) },
	})
	if own.Name() != node {
		log.Warn("node name: this host keeps the one that it joined its cluster with", "name", own.Name())
	}
	if h.engine, err = s.Cluster.settled(own.Name()); err != nil {
		return h, err
	}
	s.Cluster.tell(&h.engine, log)
	if names := s.Cluster.unread(); len(names) > 0 {
		log.Warn("environment: settings of flanneld's that are not read here", "names", strings.Join(names, " "))
	}
	if s.Cluster.Etcd != "" {
		if own.Used() {
			return h, errors.New("etcd: this host is in a cluster of Sealane's own, which has one: leave out --etcd, or sealane cluster leave before")
		}
		h.engine.Store, h.close, err = s.Cluster.dial(log)
		return h, err
	}
	if err := own.Start(); err != nil {
		log.Error("this host works alone", "err", err)
		h.engine.Later = true
	}
	h.engine.Later = h.engine.Later || !own.Used()
	h.own, h.engine.Store, h.close = own, own.Store(), own.Close
	return h, nil
}

// ports reads those of a cluster of Sealane's own.
func (s *clusterSettings) ports() (p member.Ports, err error) {
	for _, x := range []struct {
		name, text string
		to         *uint16
	}{{"client", s.ClientPort, &p.Client}, {"peer", s.PeerPort, &p.Peer}, {"join", s.JoinPort, &p.Join}} {
		n, err := strconv.ParseUint(x.text, 10, 16)
		if err != nil || n == 0 {
			return p, fmt.Errorf("cluster-%s-port %q: want a port", x.name, x.text)
		}
		*x.to = uint16(n)
	}
	if p.Client == p.Peer || p.Peer == p.Join || p.Join == p.Client {
		return p, errors.New("cluster-client-port, cluster-peer-port and cluster-join-port: want three ports")
	}
	return p, nil
}

// check reports the first of them that cannot be. Nobody is asked for that, but files of
// certificates are read.
func (s *clusterSettings) check() error {
	if _, err := s.ports(); err != nil {
		return err
	}
	if _, err := s.settled(""); err != nil {
		return err
	}
	for _, f := range s.files() {
		if f.path != "" && !filepath.IsAbs(f.path) {
			return fmt.Errorf("%s %q: want an absolute path", f.setting, f.path)
		}
	}
	if s.SubnetFile != "" && s.DockerOpts != "" && filepath.Clean(s.SubnetFile) == filepath.Clean(s.DockerOpts) {
		return fmt.Errorf("docker-opts %q: is the subnet-file", s.DockerOpts)
	}
	if s.Etcd == "" {
		return nil
	}
	_, closed, err := s.dial(slog.New(slog.DiscardHandler))
	if err == nil {
		closed()
	}
	return err
}

// settled is what the engine is to know, but the store and what is told to others.
func (s *clusterSettings) settled(node string) (c engine.Cluster, err error) {
	if !strings.HasPrefix(s.Prefix, "/") {
		return c, fmt.Errorf("etcd-prefix %q: begins with a slash", s.Prefix)
	}
	c = engine.Cluster{Prefix: strings.TrimRight(s.Prefix, "/"), Uplink: s.Uplink, Node: flannel.Node{Name: node}}
	for text := range strings.SplitSeq(s.NodeAddr, ",") {
		if text == "" {
			continue
		}
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			return c, fmt.Errorf("node-addr %q: want an address that other hosts find this one by, as 192.0.2.1", text)
		}
		c.Addrs = append(c.Addrs, a)
	}
	if a, err := netip.ParseAddr(s.Uplink); err == nil && !slices.ContainsFunc(c.Addrs, func(o netip.Addr) bool { return o.Is6() == a.Is6() }) {
		c.Addrs = append(c.Addrs, a)
	}
	if s.Commands {
		c.Commands = processes{}
	}
	if c.Bridge = s.Bridge; c.Bridge != "" {
		if err := model.CheckIfName(c.Bridge); err != nil {
			return c, fmt.Errorf("fabric-bridge: %w", err)
		}
	}
	return c, nil
}

// dial prepares the etcd of the settings, or the file.
func (s *clusterSettings) dial(log *slog.Logger) (st cluster.Store, closed func(), err error) {
	if path, is := strings.CutPrefix(s.Etcd, "file://"); is {
		return s.file(path)
	}
	st, err = etcd.Dial(etcd.Config{
		Endpoints: strings.Split(strings.ReplaceAll(s.Etcd, " ", ""), ","), CA: s.CA, Cert: s.Cert, Key: s.Key,
		Username: s.Username, Password: os.Getenv(flanneldEnv + "ETCD_PASSWORD"), PasswordFile: s.PasswordFile, Log: log,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("etcd: %w", err)
	}
	return st, func() { st.Close() }, nil
}

// file prepares the file of the settings. It is as the hosts' file system guards it.
func (s *clusterSettings) file(path string) (cluster.Store, func(), error) {
	switch {
	case !filepath.IsAbs(path) || strings.HasSuffix(path, "/") || strings.Contains(path, ","):
		return nil, nil, fmt.Errorf("etcd %q: want one file:///PATH", s.Etcd)
	case s.CA+s.Cert+s.Key+s.Username+s.PasswordFile != "":
		return nil, nil, fmt.Errorf("etcd %q: certificates, user and password are for an etcd, and not for a file", s.Etcd)
	}
	st := cluster.OpenFile(path)
	return st, func() { st.Close() }, nil
}

// envFile is a file that tells others of this host's subnet, if it has a path.
type envFile struct {
	setting, path string
	text          func(flannel.Env) []byte
}

func (s *clusterSettings) files() []envFile {
	return []envFile{{"subnet-file", s.SubnetFile, flannel.Env.Marshal}, {"docker-opts", s.DockerOpts, flannel.Env.Docker}}
}

// tell has the engine keep the files that tell others of this host's subnet, and reads
// what a flanneld left there.
func (s *clusterSettings) tell(c *engine.Cluster, log *slog.Logger) {
	if s.SubnetFile != "" {
		env, err := flannel.ReadEnv(s.SubnetFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Warn("subnet file: is written anew", "err", err)
		}
		c.Former = env.Subnet
	}
	c.Subnet = func(e *flannel.Env) error {
		var errs []error
		for _, f := range s.files() {
			switch {
			case f.path == "":
			case e != nil:
				errs = append(errs, flannel.WriteFile(f.path, f.text(*e)))
			default:
				if err := os.Remove(f.path); !errors.Is(err, fs.ErrNotExist) {
					errs = append(errs, err)
				}
			}
		}
		return errors.Join(errs...)
	}
}
