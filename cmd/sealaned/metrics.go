package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/sealane/sealane/internal/metrics"
)

// watched is where metrics are served; nil: nowhere.
type watched struct{ net.Listener }

// listenMetrics listens before anything is touched: who asked for metrics and gets none
// should know at once.
func listenMetrics(text string) (w watched, err error) {
	if text == "" {
		return w, nil
	}
	at, err := metrics.ParseAddr(text)
	if err != nil {
		return w, fmt.Errorf("metrics %w", err)
	}
	if at.Network == "unix" {
		w.Listener, err = listenMetricsPrivately(at.Address)
	} else {
		w.Listener, err = net.Listen(at.Network, at.Address)
	}
	if cause, ok := errors.AsType[syscall.Errno](err); ok && at.Network != "unix" {
		host, port, _ := net.SplitHostPort(at.Address)
		switch err = cause; cause { // the address is said
		case syscall.EADDRNOTAVAIL:
			err = fmt.Errorf("the host has no address %s: give one that it has, or :%s for all of them", host, port)
		case syscall.EADDRINUSE:
			err = errors.New("another program has the port: give another one")
		}
	}
	if err != nil {
		return w, fmt.Errorf("metrics %s: %w", text, err)
	}
	return w, nil
}

// listenMetricsPrivately makes a socket for who may use the API's.
func listenMetricsPrivately(path string) (net.Listener, error) {
	if len(path) > maxSocket {
		return nil, fmt.Errorf("%d bytes, at most %d", len(path), maxSocket)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); err == nil && !isSocket(path) {
		return nil, errors.New("is there, and no socket")
	}
	if err := nobodyAt(path); err != nil {
		return nil, err
	}
	return listenPrivately(path, func(path string) error { return errors.Join(os.Chmod(path, 0o660), share(path)) })
}

func isSocket(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == os.ModeSocket
}

// metricsSocket is the socket that a daemon with such a setting left, "" for none.
func metricsSocket(text string) string {
	if at, err := metrics.ParseAddr(text); err == nil && at.Network == "unix" && isSocket(at.Address) {
		return at.Address
	}
	return ""
}

// Close closes it, if it is open.
func (w watched) Close() error {
	if w.Listener == nil {
		return nil
	}
	return w.Listener.Close()
}

// serve answers until ctx is done or the function that it returns is called, which waits
// for the end.
func (w watched) serve(ctx context.Context, src metrics.Source, log *slog.Logger) (end func()) {
	if w.Listener == nil {
		return func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	src.Version, src.Log = version, log
	srv := metrics.Server(src)
	srv.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug) // what others do wrong
	log.Info("metrics", "at", w.Addr())
	var running sync.WaitGroup
	running.Go(func() {
		if err := metrics.Serve(ctx, srv, w.Listener); err != nil {
			log.Error("nobody is told of metrics any more", "err", err)
		}
	})
	return func() {
		stop()
		running.Wait()
	}
}
