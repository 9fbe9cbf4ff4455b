package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Path is where the metrics are.
const Path = "/metrics"

// Limits of who asks. A Prometheus or two ask every few seconds, in one connection each.
const (
	maxConns  = 256 // the next waits
	maxAsking = 4   // at once; the next is refused
	maxHeader = 8 << 10
	headTime  = 5 * time.Second
	askTime   = 10 * time.Second // to make an answer
	sendTime  = 30 * time.Second // to take it
	idleTime  = 2 * time.Minute  // between questions
)

// Addr is where the metrics are served.
type Addr struct{ Network, Address string } // as net.Listen has them

// ParseAddr reads ADDRESS:PORT, :PORT for all of the host's addresses, or unix:/PATH.
func ParseAddr(text string) (a Addr, err error) {
	if path, is := strings.CutPrefix(text, "unix:"); is {
		if !filepath.IsAbs(path) {
			return a, fmt.Errorf("%q: want unix:/PATH", text)
		}
		return Addr{"unix", filepath.Clean(path)}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return a, fmt.Errorf("%q: want ADDRESS:PORT, :PORT or unix:/PATH", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return a, fmt.Errorf("%q: want a port from 1 to 65535", text)
	}
	if _, err := netip.ParseAddr(host); host != "" && err != nil {
		return a, fmt.Errorf("%q: want an IP address, or none for all", text)
	}
	return Addr{"tcp", text}, nil
}

// Server answers with the metrics of a source, and those of Go and of the process, within
// limits. What clients do wrong goes to its ErrorLog.
func Server(src Source) *http.Server {
	all := prometheus.NewRegistry()
	all.MustRegister(&collector{src, descs()}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, promhttp.HandlerFor(all, promhttp.HandlerOpts{
		ErrorLog: complaints{src.Log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxAsking, Timeout: askTime,
	}))
	return &http.Server{
		Handler: mux, ReadHeaderTimeout: headTime, ReadTimeout: askTime, WriteTimeout: sendTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
	}
}

// complaints are what Prometheus' own code says, as it says it.
type complaints struct{ Logger }

// Println implements promhttp.Logger.
func (c complaints) Println(words ...any) { c.Warn("metrics", "err", fmt.Sprint(words...)) }

// Serve answers at a listener until ctx is done; then it hangs up on who still reads.
func Serve(ctx context.Context, srv *http.Server, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(netutil.LimitListener(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
