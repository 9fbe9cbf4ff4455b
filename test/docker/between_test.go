package docker

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"syscall"
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

// TestKilledAfter: one of the two dies each time that sealaned has done what Docker asks
// for, so that Docker hears no answer. Nothing is refused then for what Docker does not
// know of.
func TestKilledAfter(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"IpamDriver.RequestAddress", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join", "NetworkDriver.ProgramExternalConnectivity",
		"NetworkDriver.RevokeExternalConnectivity", "NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint", "IpamDriver.ReleaseAddress",
		"IpamDriver.RequestPool", "NetworkDriver.CreateNetwork", "NetworkDriver.DeleteNetwork", "IpamDriver.ReleasePool"} {
		for _, who := range []string{"sealaned", "dockerd", "dockerd --live-restore"} {
			t.Run(step+", "+who, func(t *testing.T) { newWorld(t, strings.Fields(who)[1:]...).killedAfter(step, who) })
		}
	}
}

func (w *world) killedAfter(step, who string) {
	w.a.Daemon("--docker-plugin", "/run/sealane-plugin.sock")
	armed, down := false, false
	done := w.proxy("/"+step, func(call func()) {
		call()
		switch {
		case !armed:
			return
		case who == "sealaned":
			w.a.Kill9()
			w.a.Restart()
		default:
			w.stopDocker(syscall.SIGKILL)
			down = true
		}
		armed = false
		panic(http.ErrAbortHandler)
	})
	w.startDocker()
	w.image()
	dies := func(command string) {
		w.Helper()
		armed = true
		w.a.Run("bash", "-c", environment+"docker "+command)
		done() // waits, too
		if armed = false; down {
			w.startDocker()
			down = false
		}
	}
	const create = "network create -d sealane --ipam-driver sealane --subnet 10.70.0.0/24 app"
	const web = "--name web --network app --ip 10.70.0.50 --mac-address 02:00:00:00:00:50 -p 8001:8000 echo /lab-echo serve -tcp 8000 -name web"
	answers := func() {
		w.Helper()
		w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web")
	}
	w.docker(create)
	w.docker("create " + web)
	dies("start web")
	w.docker("start web")
	answers()
	dies("stop -t 0 web")
	w.docker("start web")
	answers()
	w.docker("rm -f web")
	dies("network rm app")
	w.sh("docker network rm app || true")
	dies(create)
	w.sh("docker network rm app || true")
	w.docker(create)
	w.docker("run -d " + web)
	answers()
	w.shows(named, "sealane ps -a", " web ", "!docker-")
	w.asIntended()
}

// between has proxy do something before each call of a method, or hang up. It returns
// what counts those calls.
func (w *world) between(method string, first func()) (count func() int) {
	w.Helper()
	return w.proxy(method, func(call func()) { first(); call() })
}

// proxy answers where dockerd looks for the plugin, and hands everything on to
// sealaned, elsewhere, also what dockerd waits for no longer. Around each call of a
// method something is done. It returns what counts those calls.
func (w *world) proxy(method string, around func(call func())) (count func() int) {
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
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		call := func() { forward.ServeHTTP(rw, r.WithContext(context.WithoutCancel(r.Context()))) }
		if r.URL.Path != method {
			call()
			return
		}
		mu.Lock()
		defer mu.Unlock() // also if it hangs up
		n++
		around(call)
	})}
	go srv.Serve(l)
	w.Cleanup(func() { srv.Close() })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}
