package docker

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// TestKilledBetween: sealaned dies each time after Docker has created an endpoint
// and before it joins it, and the container starts as if nothing had been.
func TestKilledBetween(t *testing.T) {
	w := newWorld(t)
	w.a.Daemon("--docker-plugin", "/run/sealane-plugin.sock")
	kills := w.between("/NetworkDriver.Join", func() {
		w.a.Kill9()
		w.a.Restart()
	})
	w.startDocker()
	w.image()
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.70.0.0/24 app")
	w.docker("network create -d sealane --subnet 10.71.0.0/24 back")
	w.run("web", "--network app -p 8001:8000")
	w.run("db", "--network back")
	w.docker("network connect back web")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web")
	w.reach("web", "tcp://db:8000 10.71.0.3 db", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.docker("restart -t 0 web")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web")
	w.shows(named, "sealane ps", " web ", " db ", "!docker-")
	w.asIntended()
	if n := kills(); n != 5 {
		t.Errorf("sealaned was killed %d times, want 5: of every endpoint", n)
	}
}

// between answers where dockerd looks for the plugin, and hands everything on to
// sealaned, elsewhere. Before each call of a method it does something, or hangs up. It
// returns what counts those calls.
func (w *world) between(method string, first func()) (count func() int) {
	w.Helper()
	w.sh("mkdir -p /run/docker/plugins")
	root := fmt.Sprintf("/proc/%d/root/run/", w.a.Start("sleep", "1000").Pid())
	l, err := net.Listen("unix", root+"docker/plugins/sealane.sock")
	if err != nil {
		w.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "plugin"})
	forward.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", root+"sealane-plugin.sock")
	}}
	var mu sync.Mutex
	n := 0
	step := func() {
		mu.Lock()
		defer mu.Unlock() // also if it hangs up
		n++
		first()
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == method {
			step()
		}
		forward.ServeHTTP(rw, r)
	})}
	go srv.Serve(l)
	w.Cleanup(func() { srv.Close() })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}
