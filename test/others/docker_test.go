package others

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/dockerd"
)

// docker is a dockerd of host a, and the process to stop.
type docker struct {
	h *hosts
	d *dockerd.Daemon
	p *lab.Process
}

// docker starts dockerd with a container of Docker's own: 8090 is published,
// 81 is not.
func (h *hosts) docker() *docker {
	h.Helper()
	x := &docker{h: h}
	x.start()
	if err := x.d.ImportEcho(h.Context()); err != nil {
		h.Fatal(err)
	}
	x.run()
	return x
}

func (x *docker) start() {
	x.h.Helper()
	start := func(cmd *exec.Cmd) (err error) {
		x.p, err = x.h.a.StartCmd(cmd)
		return err
	}
	var err error
	if x.d, err = dockerd.Start(x.h.Context(), start, "--bip=172.30.0.1/24"); err != nil {
		x.h.Fatal(err)
	}
}

func (x *docker) run() {
	x.h.Helper()
	_ = x.d.Remove(x.h.Context(), "theirs") // after a restart
	err := x.d.Run(x.h.Context(), dockerd.Container{
		Name: "theirs", Image: "echo", Cmd: []string{"/lab-echo", "serve", "-tcp", "8090,81"}, Publish: []string{"8090/tcp"},
	})
	if err != nil {
		x.h.Fatal(err)
	}
}

// stop ends dockerd and, as it does, its containers. Its rules stay.
func (x *docker) stop() {
	x.h.Helper()
	x.p.Signal(syscall.SIGTERM)
	done := make(chan int, 1)
	go func() { done <- x.p.Wait() }()
	ctx, cancel := context.WithTimeout(x.h.Context(), time.Minute)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		x.h.Fatalf("dockerd does not stop:\n%s", x.p.Output())
	}
	x.d.Close()
}

// works checks Docker's own container: the published port answers everybody,
// containers of Sealane's too, and the other nobody outside Docker's network.
func (x *docker) works() {
	h := x.h
	h.Helper()
	ip := fmt.Sprint(x.address())
	end := time.Now().Add(soon)
	for _, from := range []string{"b", "web"} {
		err := h.reach(from, "get http://192.0.2.1:8090/", "1s")
		for err != nil && time.Now().Before(end) {
			err = h.reach(from, "get http://192.0.2.1:8090/", "1s")
		}
		if err != nil {
			h.Errorf("Docker's container from %s: %v", from, err)
		}
	}
	h.sh("ip route replace 172.30.0.0/24 dev docker0 src 172.30.0.1")
	h.shut("web", "get http://"+ip+":81/")
	h.b.Must("ip", "route", "replace", "172.30.0.0/24", "via", "192.0.2.1")
	h.shut("b", "get http://"+ip+":81/")
	r := h.sh(fmt.Sprintf("nsenter --net=/proc/%d/ns/net lab-echo get -timeout 10s http://192.0.2.1:8080/", x.pid()))
	if r == "" {
		h.Error("Docker's container does not reach a published port of Sealane's")
	}
	h.sh(fmt.Sprintf("! nsenter --net=/proc/%d/ns/net lab-echo get -timeout 300ms http://10.7.0.3/ 2>/dev/null", x.pid()))
}

func (x *docker) inspect() dockerd.Inspection {
	x.h.Helper()
	i, err := x.d.Inspect(x.h.Context(), "theirs")
	if err != nil {
		x.h.Fatal(err)
	}
	return i
}

func (x *docker) pid() int { x.h.Helper(); return x.inspect().State.Pid }

func (x *docker) address() string {
	x.h.Helper()
	for _, n := range x.inspect().NetworkSettings.Networks {
		return n.IPAddress
	}
	return ""
}

func TestDocker(t *testing.T) {
	lab.Needs(t, "dockerd", "iptables")
	h := newHosts(t)
	x := h.docker()
	before := h.theirs()
	h.sealane()
	h.open("start", false)
	x.works()
	h.untouched(before, 1)
	h.exceptions("ip filter DOCKER-USER")

	h.sh("iptables -I DOCKER-USER -d 10.7.0.2 -p tcp --dport 80 -j DROP")
	h.open2shut("a rule in DOCKER-USER", "get http://192.0.2.1:8080/", "get http://[2001:db8::1]:8080/")
	h.sh("iptables -D DOCKER-USER -d 10.7.0.2 -p tcp --dport 80 -j DROP")

	h.sh("iptables -F FORWARD")
	h.open("iptables -F FORWARD", false)
	h.exceptions("ip filter FORWARD")
	x.stop()
	h.open("stop", false)
	x.start()
	x.run()
	h.open("start again", false)
	x.works()
	h.exceptions("ip filter DOCKER-USER")
	h.sh("nft flush ruleset")
	h.open("nft flush ruleset", false)
	x.stop()
	x.start()
	x.run()
	// Docker sets the policy only where it turns forwarding on itself.
	h.sh("iptables -P FORWARD DROP")
	h.open("start after a flush", false)
	x.works()
	if err := x.d.Remove(h.Context(), "theirs"); err != nil {
		h.Fatal(err)
	}
	x.run()
	h.quiet(without(h.theirs()))
}
