package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/dockerplugin"
	"github.com/sealane/sealane/internal/engine"
)

// serveDocker lets Docker use our networks, until ctx is done and the function
// that it returns is called. Without it everything else works: what is in the way
// is said in the log.
func serveDocker(ctx context.Context, socket string, passed net.Listener, eng *engine.Engine, log *slog.Logger) (wait func()) {
	if socket == "" {
		return func() {}
	}
	l, err := passed, error(nil)
	if l == nil {
		l, err = listenPlugin(socket)
	}
	if err != nil {
		log.Warn("docker: Sealane is no driver there", "err", err)
		return func() {}
	}
	plugin := dockerplugin.New(eng)
	srv := &http.Server{Handler: plugin, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	var running sync.WaitGroup
	if names, err := dockerplugin.NewDirectory(plugin); err != nil {
		log.Warn("docker: containers and networks stay without names", "err", err)
	} else {
		running.Go(func() { names.Follow(ctx, func(err error) { log.Warn("docker: names", "err", err) }) })
	}
	running.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("docker: plugin", "err", err)
		}
	})
	running.Go(func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(grace) // who still waits after that is hung up on
	})
	return running.Wait
}

// listenPlugin makes the plugin's socket. Docker runs as root, nobody else may
// use it.
func listenPlugin(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := nobodyAt(path); err != nil {
		return nil, err
	}
	return listenPrivately(path, func(path string) error { return os.Chmod(path, 0o600) })
}
