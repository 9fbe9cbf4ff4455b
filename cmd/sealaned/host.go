package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kernel/facts"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/dns"
)

// hostFacts returns the engine's source of facts about the host.
func hostFacts(j journal.Journal, log *slog.Logger) func() engine.Host {
	return func() engine.Host {
		bridged, err := bridgeNetfilter()
		if err != nil {
			log.Warn("read br_netfilter's switches", "err", err)
		}
		return engine.Host{
			BridgeNetfilter: bridged,
			AcceptRA:        advertised(j),
			Wireless:        facts.Wireless(),
			Neighbours:      facts.Neighbours(changed(j)),
			StrictPaths:     facts.StrictPaths(),
			Resolv:          compile.ParseResolv(facts.ResolvConf()),
			Servers:         dns.Servers(facts.OwnResolvConf()),
		}
	}
}

// bridgeNetfilter reports whether bridged packets pass the IP firewall hooks.
func bridgeNetfilter() (bool, error) {
	calls, err := feature.BridgeCalls()
	return slices.Contains(calls, "bridge-nf-call-iptables") || slices.Contains(calls, "bridge-nf-call-ip6tables"), err
}

// followBridgeNetfilter calls changed when that is another than it was, until ctx is done.
// It looks each second, for the kernel does not tell: inotify hears of a setting only what
// is written through the same mount of /proc, and nothing of a module that comes.
func followBridgeNetfilter(ctx context.Context, was bool, changed func()) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, err := bridgeNetfilter(); err == nil && now != was { // passes complain
			was = now
			changed()
		}
	}
}

// bootID tells this boot of the host from others (random(4)); "" if it is not known.
func bootID(log *slog.Logger) string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		log.Warn("read the boot's ID", "err", err)
	}
	return strings.TrimSpace(string(b))
}

// advertised lists the devices that live on router advertisements: those that
// have a route from one, and those we changed for that reason, which may have
// none for the moment.
func advertised(j journal.Journal) []string {
	devs := facts.RouterAdvertised()
	entries, err := j.Entries()
	if err != nil {
		return devs
	}
	for key := range entries {
		dev, ok := strings.CutPrefix(key, "sysctl/net.ipv6.conf.")
		if dev, isRA := strings.CutSuffix(dev, ".accept_ra"); ok && isRA && !slices.Contains(devs, dev) {
			devs = append(devs, dev)
		}
	}
	slices.Sort(devs)
	return devs
}

// changed reports which settings we have changed.
func changed(j journal.Journal) func(name string) bool {
	entries, err := j.Entries()
	return func(name string) bool {
		_, ours := entries["sysctl/"+name]
		return ours && err == nil
	}
}

// processes is the engine's view of package process.
type processes struct{}

func (processes) Alive(p model.Process) bool { return process.Alive(p.PID, p.Start) }

func (processes) Wait(ctx context.Context, p model.Process) error {
	wait, err := process.Watch(p.PID, p.Start)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	return wait(ctx)
}

func (processes) Kill(p *model.Process, netns string) error {
	if p != nil {
		if err := process.Kill(p.PID, p.Start, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	if netns == "" {
		return nil
	}
	info, err := os.Stat(netns)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return process.KillAll(info.Sys().(*syscall.Stat_t).Ino)
}
