package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/sealane/sealane/internal/api/server"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kernel/facts"
	"github.com/sealane/sealane/internal/kernel/linux"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kernel/trail"
	"github.com/sealane/sealane/internal/kernel/uplink"
	"github.com/sealane/sealane/internal/metrics"
	"github.com/sealane/sealane/internal/runtime"
	"github.com/sealane/sealane/internal/serve/announce"
	"github.com/sealane/sealane/internal/serve/dhcp"
	"github.com/sealane/sealane/internal/serve/dns"
	"github.com/sealane/sealane/internal/serve/health"
	"github.com/sealane/sealane/internal/serve/pathmtu"
	"github.com/sealane/sealane/internal/serve/proxy"
	"github.com/sealane/sealane/internal/serve/udptun"
	"github.com/sealane/sealane/internal/serve/wireguard"
	"github.com/sealane/sealane/internal/store"
)

// storeName is the store's file in the state directory.
const storeName = "sealane.db"

// run connects the parts and serves until ctx is done. Data paths stay.
func run(ctx context.Context, s settings) error {
	log := s.logger()
	if err := capable(feature.Check); err != nil {
		return err
	}
	watched, err := listenMetrics(s.Metrics)
	if err != nil {
		return err
	}
	defer watched.Close()
	st, release, err := s.open()
	if err != nil {
		return err
	}
	defer release()
	passed, err := passedSockets()
	if err != nil {
		return err
	}
	listener, err := listen(s, passed.api) // before the kernel: a second daemon must not touch it
	if err != nil {
		return err
	}
	defer listener.Close()
	kern, err := linux.Open(linux.Config{RunDir: s.RunDir, Journal: st})
	if err != nil {
		return err
	}
	defer kern.Close()

	var targets lateResolver
	px, err := proxy.Start(ctx, &targets, lastPort(s.RunDir), log)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	defer px.Close()
	notePort(s.RunDir, px.Port(), log)
	kern.Spare(px.Port())

	names := dns.New(log)
	defer names.Close()
	ann, err := announce.Start(log)
	if err != nil {
		return err
	}
	defer ann.Close()
	leases := dhcp.New(log)
	defer leases.Close()
	tunnels := udptun.NewKeeper(log)
	defer tunnels.Close()
	paths := pathmtu.New(log)
	defer paths.Close()
	encrypted := wireguard.NewKeeper(log)
	defer encrypted.Close()
	backends := health.New()
	defer backends.Close()

	host, _ := os.Hostname()
	hosts, err := s.hosts(cmp.Or(s.NodeName, host), targets.engine.Load, log)
	if err != nil {
		return err
	}
	defer hosts.close()
	if why := kern.WhyNoChoice(); why != nil {
		log.Info("services: the host chooses backends for all, and no socket of a container does", "why", why)
	}
	var features feature.Cache
	guests := runtime.New(runtime.Config{})
	eng := engine.New(engine.Config{
		Kernel: kern, Store: st, Processes: processes{}, Host: hostFacts(st, log), RunDir: s.RunDir,
		ProxyPort: px.Port(), Accepted: s.accepted, Default: s.network, PortsChanged: px.Recheck, Names: names, Announcer: ann, Leases: leases, Tunnels: tunnels, WireGuard: encrypted, Paths: paths, Checks: backends, Probe: announce.Prober(kern.WaysFrom), SideRoutes: facts.SideRoutes, LinkLocals: facts.LinkLocals, Follow: trail.Follow, Flows: kern.Flows, HandedOver: kern.HandedOver, SocketsChoose: kern.WhyNoChoice() == nil,
		Limits: func() error { return features.Check(feature.Limits) }, Feature: features.Check, SwitchOf: kern.SwitchOf, Heed: kern.Heed, Now: time.Now, Log: log,
		Guests: guests, Health: s.health(&features, guests), Runner: processes{}, Boot: bootID(log), Uplinks: uplink.Under(s.StateDir), Cluster: hosts.engine,
	})
	targets.engine.Store(eng)
	bridged, _ := bridgeNetfilter()
	if err := eng.Start(ctx); err != nil {
		return err
	}
	defer eng.Close()
	go func() {
		changed := func() {
			time.Sleep(50 * time.Millisecond)                    // who makes the file anew is done then
			names.SetServers(dns.Servers(facts.OwnResolvConf())) // not later: passes may be resting
			eng.Kick("resolv.conf changed")
		}
		if err := facts.WatchResolvConf(ctx, changed); err != nil {
			log.Warn("watch resolv.conf: changes are seen by regular passes only", "err", err)
		}
	}()
	go followBridgeNetfilter(ctx, bridged, func() { eng.Kick("br_netfilter's switches changed") })
	info := server.Info{Version: version, RunDir: s.RunDir}
	if hosts.own != nil {
		info.Cluster = hosts.own
	}
	followers := serveDocker(ctx, s.Docker, passed.docker, eng, log)
	defer followers()
	defer watched.serve(ctx, metrics.Source{Engine: eng, Names: names, Proxy: px, Devices: facts.Devices}, log)()
	return serve(ctx, listener, server.New(eng, info, log), log)
}

// capable refuses a kernel that surely lacks what every network needs. Where it
// could not be told, the first network will.
func capable(check func(name string) error) error {
	for _, name := range []string{feature.Nftables, feature.Bridge, feature.Veth} {
		if missing, ok := errors.AsType[*feature.Missing](check(name)); ok {
			return fmt.Errorf("this kernel cannot do what Sealane needs: %w", missing)
		}
	}
	return nil
}

// serve answers the API until ctx is done, then lets running requests finish.
func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	log.Info("ready", "socket", strings.TrimSuffix(l.Addr().String(), ".new"))
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("tell systemd", "err", err)
	}
	select {
	case err := <-failed:
		return fmt.Errorf("api: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping; every data path stays")
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(grace)
}

// lastPort returns the port that the proxy had before this daemon started, so
// that the firewall need not change; 0 if none is known.
func lastPort(runDir string) uint16 {
	text, _ := os.ReadFile(filepath.Join(runDir, portFile))
	port, _ := strconv.ParseUint(string(text), 10, 16)
	return uint16(port)
}

func notePort(runDir string, port uint16, log *slog.Logger) {
	if err := os.WriteFile(filepath.Join(runDir, portFile), []byte(strconv.Itoa(int(port))), 0o644); err != nil {
		log.Warn("note the proxy's port", "err", err)
	}
}

const portFile = "proxy-port"

// lateResolver lets the proxy start before the engine that answers it: the
// engine must know the proxy's port.
type lateResolver struct{ engine atomic.Pointer[engine.Engine] }

// Target asks the engine once there is one.
func (r *lateResolver) Target(proto string, client netip.Addr, dst netip.AddrPort) (netip.AddrPort, bool) {
	if e := r.engine.Load(); e != nil {
		return e.Target(proto, client, dst)
	}
	return netip.AddrPort{}, false
}

// sockets are those that systemd passed, nil without.
type sockets struct{ api, docker net.Listener }

// passedSockets tells them apart by the name that the unit gives
// (FileDescriptorName=docker); any other is the API's.
func passedSockets() (s sockets, err error) {
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return s, fmt.Errorf("socket activation: %w", err)
	}
	for name, list := range passed {
		for _, l := range list {
			if name == "docker" {
				s.docker = l
			} else {
				s.api = l
			}
		}
	}
	return s, nil
}

// listen returns the API's socket: the one systemd passed, or a new one that
// only root and the group sealane may use.
func listen(s settings, passed net.Listener) (_ net.Listener, err error) {
	if passed != nil {
		if path := passed.Addr().String(); filepath.IsAbs(path) {
			err = share(path)
		}
		return passed, err
	}
	if err := os.MkdirAll(filepath.Dir(s.Socket), 0o755); err != nil {
		return nil, err
	}
	if err := nobodyAt(s.Socket); err != nil {
		return nil, err
	}
	if err := os.Remove(s.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return listenPrivately(s.Socket, func(path string) error { return errors.Join(os.Chmod(path, 0o660), share(path)) })
}

// open opens the store, and keeps other daemons from it and from the network
// namespace, whatever directories they have: of two, each would remove what the
// other made.
func (s settings) open() (st *store.Store, release func(), err error) {
	st, err = store.Open(filepath.Join(s.StateDir, storeName))
	if err != nil {
		return nil, nil, err
	}
	held, err := netns.Hold()
	if err != nil {
		st.Close()
		return nil, nil, err
	}
	return st, func() { held.Close(); st.Close() }, nil
}

// nobodyAt refuses a socket that is somebody else's.
func nobodyAt(path string) error {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("socket %s: another daemon answers there", path)
	}
	return nil
}

// listenPrivately makes the socket under another name and moves it into place
// when its owner and mode are right, so that nobody else gets in before.
func listenPrivately(path string, admit func(path string) error) (net.Listener, error) {
	tmp := path + ".new"
	os.Remove(tmp)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = admit(tmp); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		l.Close()
		os.Remove(tmp)
		return nil, err
	}
	return l, nil
}

// share gives a socket to the group sealane, if there is one. A socket of
// another group than root's was made so by who runs the host, and is left.
func share(path string) error {
	g, err := user.LookupGroup("sealane")
	if err != nil {
		return nil
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("group sealane: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Gid != 0 {
		return nil
	}
	return os.Chown(path, 0, gid)
}
