package lab

import (
	"context"
	"strings"
	"syscall"
	"time"
)

// daemonTimeout is how long the daemon may take to start or to stop.
const daemonTimeout = 90 * time.Second

// daemon is the product's daemon on a host, and how to start it again.
type daemon struct {
	*Process
	args []string
}

// Daemon starts `sealane daemon` with args on the host and returns when it
// says that it is ready.
func (h *Host) Daemon(args ...string) {
	h.t.Helper()
	p := h.Start("sealane", append([]string{"daemon"}, args...)...)
	h.mu.Lock()
	h.daemon = &daemon{p, args}
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), daemonTimeout)
	defer cancel()
	if err := p.Await(ctx, saysReady); err != nil {
		h.t.Fatalf("%s: daemon: ready: %v\n%s", h.Name, err, p.Output())
	}
}

// saysReady accepts a log line that says ready, as text or JSON, and nothing
// that merely has the word in it.
func saysReady(line string) bool {
	return line == "ready" || strings.Contains(line+" ", "msg=ready ") || strings.Contains(line, `"msg":"ready"`)
}

// Kill9 kills the daemon without a chance to say goodbye.
func (h *Host) Kill9() {
	h.t.Helper()
	h.end(syscall.SIGKILL)
}

// Stop asks the daemon to stop and waits; it has to exit with status 0.
func (h *Host) Stop() {
	h.t.Helper()
	d := h.end(syscall.SIGTERM)
	if code := d.Wait(); code != 0 {
		h.t.Fatalf("%s: daemon: stop: exit %d\n%s", h.Name, code, d.Output())
	}
}

// Restart stops the daemon if it runs and starts it as it was started.
func (h *Host) Restart() {
	h.t.Helper()
	d := h.running()
	select {
	case <-d.done:
	default:
		h.Stop()
	}
	h.Daemon(d.args...)
}

// DaemonLog is what the daemon started last has logged.
func (h *Host) DaemonLog() string {
	h.t.Helper()
	return h.running().Output()
}

// running is the daemon started last, whether or not it has ended since.
func (h *Host) running() *daemon {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon == nil {
		h.t.Fatalf("%s: daemon: never started", h.Name)
	}
	return h.daemon
}

// end sends a signal to the daemon and waits until it has ended.
func (h *Host) end(sig syscall.Signal) *daemon {
	h.t.Helper()
	d := h.running()
	d.Signal(sig)
	select {
	case <-d.done:
	case <-time.After(daemonTimeout):
		h.t.Fatalf("%s: daemon: %v: still there after %v\n%s", h.Name, sig, daemonTimeout, d.Output())
	}
	return d
}
