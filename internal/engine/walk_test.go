package engine

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// walker changes things at random: by the engine's methods, as somebody else,
// and by ending the process or the whole host.
type walker struct {
	*rig
	*rand.Rand
	stop func() // ends httpd
}

func (w *walker) of(list ...string) string { return list[w.IntN(len(list))] }

func (w *walker) network() string {
	return w.of("bridge", "net0", "net1", "net2", "net3", "lan", "inner")
}

func (w *walker) sandbox() string {
	return w.of("sb0", "sb1", "sb2", "sb3", "netns:"+givenNS.Path)
}

func (w *walker) ports() []model.PortMapping {
	var texts []string
	for range w.IntN(3) {
		first := 8050 + w.IntN(20)
		texts = append(texts, w.of(
			fmt.Sprintf("%d:80", first), fmt.Sprintf("%d-%d:%d-%d", first, first+2, first, first+2), fmt.Sprintf("%d-%d:81", first, first+3),
			"82", fmt.Sprintf("127.0.0.1:%d:83", first), fmt.Sprintf("[::1]:%d:84/udp", first)))
	}
	return ports(texts...)
}

func (w *walker) endpoint() EndpointSpec {
	spec := EndpointSpec{Network: w.network(), Priority: w.IntN(3)}
	if w.IntN(4) == 0 {
		spec.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, byte(w.IntN(5)), 0, byte(w.IntN(16))})}
	}
	if w.IntN(5) == 0 {
		spec.Limits.Ingress.Rate = 1e7
	}
	if w.IntN(5) == 0 {
		spec.Limits.Egress.Rate = 1e7
	}
	return spec
}

func (w *walker) networkSpec() NetworkSpec {
	switch name := w.network(); name {
	case "lan":
		return netSpec(name, "name=br0", "fd00:9::/64")
	case "inner":
		return netSpec(name, "internal", "icc=false", "10.3.0.0/28")
	default:
		i := w.IntN(3)
		words := []string{fmt.Sprintf("10.%d.0.0/28", i)}
		if w.IntN(2) == 0 {
			words = append(words, fmt.Sprintf("fd00:%d::/64", i))
		}
		return netSpec(name, append(words, w.of("icc=true", "icc=false"), w.of("masquerade=true", "masquerade=false"), w.mode())...)
	}
}

func (w *walker) mode() string {
	return w.of("gateway-mode=nat", "gateway-mode-ipv4=routed", "gateway-mode=routed", "gateway-mode-ipv6=nat-unprotected")
}

// update changes options of a network.
func (w *walker) update() (string, error) {
	name := w.network()
	k, v, _ := strings.Cut(w.of(w.mode(), "icc=false", "icc=true", "antispoof=off", "antispoof=on", "host-access=off", "mtu=1400", "source-ip=198.51.100.9"), "=")
	_, err := w.e.UpdateNetwork(w.ctx, name, NetworkUpdate{Options: map[string]string{k: v}})
	return "update " + name + " " + k + "=" + v, err
}

// change makes one change through the engine.
func (w *walker) change() (what string, err error) {
	ctx, e := w.ctx, w.e
	switch w.IntN(13) {
	case 0, 1:
		spec := w.networkSpec()
		_, err = e.CreateNetwork(ctx, spec)
		return "create network " + spec.Name, err
	case 2:
		name := w.network()
		return "remove network " + name, e.RemoveNetwork(ctx, name)
	case 3, 4:
		spec := SandboxSpec{Name: w.of("sb0", "sb1", "sb2", "sb3"), Ports: w.ports(), AutoRemove: w.IntN(4) == 0}
		for range w.IntN(3) {
			spec.Networks = append(spec.Networks, w.endpoint())
		}
		_, err = e.CreateSandbox(ctx, spec)
		return "create " + spec.Name, err
	case 5:
		name := w.sandbox()
		return "remove " + name, e.RemoveSandbox(ctx, name, w.IntN(2) == 0)
	case 6, 7:
		name, spec := w.sandbox(), w.endpoint()
		_, _, err = e.Connect(ctx, name, spec, w.ports())
		return "connect " + name + " " + spec.Network, err
	case 8:
		name, network := w.sandbox(), w.network()
		return "disconnect " + name + " " + network, e.Disconnect(ctx, name, network)
	case 9:
		name := w.sandbox()
		_, err = e.Publish(ctx, name, w.ports())
		return "publish " + name, err
	case 10:
		name := w.sandbox()
		if sb, err := e.Sandbox(name); err == nil && len(sb.Ports) > 0 {
			return "unpublish " + name, e.Unpublish(ctx, name, sb.Ports[:1+w.IntN(len(sb.Ports))])
		}
		return "end " + name, e.Exited(ctx, name, model.Exit{Code: 1})
	case 11:
		return w.update()
	default:
		d := Declaration{Networks: []NetworkSpec{w.networkSpec()},
			Endpoints: []EndpointDeclaration{{Sandbox: w.sandbox(), EndpointSpec: w.endpoint(), Ports: w.ports()}}}
		_, err = e.Apply(ctx, d)
		return "apply " + d.Networks[0].Name + " " + d.Endpoints[0].Sandbox, err
	}
}

// changeAndDie makes a change and cuts it somewhere.
func (w *walker) changeAndDie() string {
	c := cut{step: w.IntN(40), order: []order{racing, storeFirst, kernelFirst}[w.IntN(3)]}
	if w.IntN(4) == 0 {
		c.step, c.store = -1, w.of("before", "after")
	}
	what := ""
	w.stop() // a port that is stored and then cannot be held stays so
	w.dieAt(c, func(*rig) (err error) { what, err = w.change(); return err })
	return fmt.Sprint(what, ", ", c)
}

// damage lets somebody else remove some of our objects.
func (w *walker) damage() string {
	what := "removed by others:"
	for _, o := range w.wanted().Sorted() {
		if w.IntN(20) == 0 && (o.Key().Kind != kstate.KindNetNS || w.IntN(4) == 0) && w.mine(o) {
			w.k.Remove(o.Key())
			what += "\n\t" + o.String()
		}
	}
	return what
}

// mine reports whether an object that is wanted was not made by others.
func (w *walker) mine(o kstate.Object) bool {
	a, ok := o.(kstate.Addr)
	return !ok || a.Dev != lan.Name || a.Prefix.Addr().Is6()
}

func TestRandomWalk(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := &walker{rig: newRig(t), Rand: rand.New(rand.NewPCG(seed, 7)), stop: func() {}}
			w.httpd()
			end := time.Now().Add(15 * time.Second)
			var story []string
			steps, refused := 0, map[model.Kind]int{}
			for ; steps < 1000 && time.Now().Before(end); steps++ {
				story = append(story, w.step(refused))
				w.check()
				if t.Failed() {
					for _, s := range story[max(0, len(story)-8):] {
						t.Log(s)
					}
					t.FailNow()
				}
			}
			t.Logf("%d steps, refused: %v", steps, refused)
			if steps < 100 || refused[model.Conflict] == 0 || refused[model.NotFound] == 0 || refused[model.Internal] > 0 {
				t.Errorf("after %d steps refused: %v", steps, refused)
			}
		})
	}
}

// step does one thing, and what must follow it.
func (w *walker) step(refused map[model.Kind]int) string {
	switch w.IntN(12) {
	case 0, 1, 2:
		what := w.changeAndDie()
		w.start()
		w.httpd()
		return what
	case 3:
		what := w.damage()
		must[[]kstate.Op](w)(w.e.Sync(w.ctx, "test"))
		return what
	case 4:
		what := w.damage()
		w.restart()
		return what + "\n\tand restart"
	case 5:
		if w.IntN(4) > 0 {
			w.restart()
			return "restart"
		}
		w.die()
		w.reboot()
		w.start()
		w.httpd()
		return "reboot"
	default:
		before := w.summary() + w.k.Dump()
		what, err := w.change()
		if err != nil {
			refused[model.KindOf(err)]++
			w.same("after a refusal, the world", lines(w.summary()+w.k.Dump()), lines(before))
		}
		return fmt.Sprint(what, ": ", err)
	}
}

// httpd takes a port that the walk publishes now and then, if it can.
func (w *walker) httpd() {
	if stop, err := w.k.Listen("tcp", netip.MustParseAddrPort("0.0.0.0:8060"), "httpd"); err == nil {
		w.stop = stop
	}
}
