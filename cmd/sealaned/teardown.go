package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel/linux"
	"github.com/sealane/sealane/internal/kernel/uplink"
	"github.com/sealane/sealane/internal/serve/dns"
	"github.com/sealane/sealane/internal/serve/udptun/shortcut"
)

// teardown removes what a stopped daemon left. The store stays: it says what
// to make when a daemon starts again.
func teardown(ctx context.Context, s settings) error {
	log := s.logger()
	st, release, err := s.open()
	if err != nil {
		return err
	}
	defer release()
	kern, err := linux.Open(linux.Config{RunDir: s.RunDir, Journal: st})
	if err != nil {
		return err
	}
	names := dns.New(log)
	defer names.Close()
	err = engine.Teardown(ctx, engine.Config{
		Kernel: kern, Store: st, Processes: processes{}, Host: hostFacts(st, log),
		RunDir: s.RunDir, Names: names, Uplinks: uplink.Under(s.StateDir), Now: time.Now, Log: log,
	})
	err = errors.Join(err, shortcut.Sweep(), kern.Remove(), kern.Close())
	for _, file := range []string{s.Socket, s.Docker, metricsSocket(s.Metrics), filepath.Join(s.RunDir, portFile)} {
		if rm := os.Remove(file); file != "" && rm != nil && !errors.Is(rm, os.ErrNotExist) {
			err = errors.Join(err, rm)
		}
	}
	for _, dir := range []string{s.RunDir, filepath.Dir(s.Docker), filepath.Dir(filepath.Dir(s.Docker))} {
		os.Remove(dir) // stays if others keep something there
	}
	if err == nil {
		log.Info("removed; the networks are remembered", "store", filepath.Join(s.StateDir, storeName))
	}
	return err
}
