package security

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

// row is one of the matrix. What it says begins as in the first table of docs/security.md,
// if it is there: see TestPage. with is an option that all networks have for it.
type row struct{ id, what, client, target, want, with string }

// rows are Docker's properties by number, and what more we promise. A target is
// a protocol, a place and a port:
//
//	host    the host's address on the lan, at a port published there: pub, or of its own: 7000
//	ll      the host's link-local address
//	gw      the gateway of the network, on an isolated one the host's address on the lan
//	lo      127.0.0.1, sent to the host
//	web     web's own address
//
// Who asks is a host, "host" itself, the same network's peer, web itself, or a
// sandbox by name. Verdicts are those of modes: yes, no, or what address of the
// client is seen: web's, or the host's. A dot is not asked. Among them are Docker's
// TestDirectRemoteAccessOnExposedPort and TestAccessPortPublishedOnLoopbackAddress.
var rows = []row{
	{"S1", "outside → published port, at a host address", "remote", "tcp host pub", "client no client no no", ""},
	{"S1", "outside → published port, at a host address", "remote", "udp host pub", "client no client no no", ""},
	{"S2", "outside, with a route → published port, at the container's address", "attacker", "tcp web 80", "no yes yes no no", ""},
	{"S2", "outside, with a route → published port, at the container's address", "attacker", "udp web 80", "no yes yes no no", ""},
	{"S2", "another segment to a published port of the container", "neighbour", "tcp web 80", "no yes yes no no", ""},
	{"S3", "outside, with a route → a port that is not published", "attacker", "tcp web 81", "no no yes no no", ""},
	{"S3", "outside, with a route → a port that is not published", "attacker", "udp web 81", "no no yes no no", ""},
	{"S4", "another network → published port, at the container's address", "peer-other", "tcp web 80", "no yes yes no no", ""},
	{"S5", "another network → a port that is not published", "peer-other", "tcp web 81", "no no yes no no", ""},
	{"S6", "another network → published port, at a host address", "peer-other", "tcp host pub", "client no client no no", ""},
	{"S6", "the same network → published port, at a host address", "peer", "tcp host pub", "yes no yes no no", ""},
	{"S7", "the host → every port, at the container's address", "host", "tcp web 81", "yes yes yes yes no", ""},
	{"S8", "the container → services of the host", "web", "tcp gw 7000", "yes yes yes yes no", ""},
	{"S9", "the same network → every port", "peer", "tcp web 81", "yes yes yes yes yes", ""},
	{"S10", "outside, with a route to 127.0.0.0/8 → such a port", "attacker", "tcp lo 9000", "no no no no no", ""},
	{"S10", "the same, at the container's address", "attacker", "tcp web 83", "no no yes no no", ""},
	{"S10", "the same, at the host's address", "remote", "tcp host 9000", "no no no no no", ""},
	{"S10", "the host → a port published on 127.0.0.1 or ::1", "host", "tcp lo 9000", "yes no yes no no", ""},
	{"S11", "outside, with a route → ping", "attacker", "ping web", "no yes yes no no", ""},
	{"S12", "the container → outside", "web", "tcp attacker 80", "host web host no no", ""},
	{"S13", "a link-local client to a published port of the host", "remote", "tcp ll pub", "yes no yes no no", ""},
	{"S13", "the container itself to its published port at a link-local address", "web", "tcp ll pub", "yes no yes no no", ""},
	{"S13", "the same network to a published port at a link-local address", "peer", "tcp ll pub", "yes no yes no no", ""},
	{"S6", "the container itself to its published port of the host", "web", "tcp host pub", "yes no yes no no", ""},
	{"from", "a client that may use the port", "remote", "tcp host 8500", "client no client no no", ""},
	{"from", "a client that may not", "neighbour", "tcp host 8500", "no no no no no", ""},
	{"from", "another network's client that may not", "peer-other", "tcp host 8500", "no no no no no", ""},
	{"from", "a link-local client that may not", "remote", "tcp ll 8500", "no no no no no", ""},
	{"from", "a client that may not, at the container's address", "attacker", "tcp web 84", "no no yes no no", ""},
	{"7.1", "an internal or isolated network → any of these: an internal one to a published port of another's", "peer-internal", "tcp web 80", "no no no . no", ""},
	{"7.1", "an internal or isolated network → any of these: an internal one to any port of another's", "peer-internal", "tcp web 81", "no no no . no", ""},
	{"7.1", "an internal or isolated network → any of these: an internal one to a published port of the host", "peer-internal", "tcp host pub", "no no no no no", ""},
	{"7.1", "an internal or isolated network → any of these: an internal one to a published port at its gateway", "peer-internal", "tcp inner pub", "no no no no no", ""},
	{"7.1", "an internal or isolated network → any of these: an internal one to a published port at a link-local address", "peer-internal", "tcp ll pub", "no no no no no", ""},
	{"7.1", "an internal or isolated network → any of these: an isolated one to a published port of another's", "peer-isolated", "tcp web 80", "no no no no .", ""},
	{"7.1", "an internal or isolated network → any of these: an isolated one to a published port of the host", "peer-isolated", "tcp host pub", "no no no no no", ""},
	{"7.1", "an isolated network to the gateways of others", "peer-isolated", "tcp gw 7000", "no no no no no", ""},
	{"S9", "the same network, icc=false → every port", "peer", "tcp web 81", "no no no no no", "icc=false"},
	{"S9", "the same network, icc=false → every port", "peer", "udp web 80", "no no no no no", "icc=false"},
	{"S9", "the same network, icc=false → every port: a ping", "peer", "ping web", "no no no no no", "icc=false"},
	{"S9", "the host, icc=false", "host", "tcp web 81", "yes yes yes yes no", "icc=false"},
	{"S8", "the container → services of the host, host-access=off", "web", "tcp gw 7000", "no no no no no", "host-access=off"},
	{"S8", "the container → services of the host, host-access=off: at its other addresses", "web", "tcp host 7000", "no no no no no", "host-access=off"},
	{"S12", "the container → outside, host-access=off", "web", "tcp attacker 80", "host web host no no", "host-access=off"},
	{"127", "the container to a port on the host's loopback", "web", "tcp lo 9000", "no no no no no", ""},
}

// extras are rows of the other networks: client, target, verdict.
var extras = []struct {
	id, what, client string
	n                network
	target, want     string
}{
	{"trusted", "a trusted segment to a published port of the container", "neighbour", trusted, "tcp web 80", "yes"},
	{"trusted", "a trusted segment to an unpublished port", "neighbour", trusted, "tcp web 81", "no"},
	{"trusted", "another segment to a published port of the container", "attacker", trusted, "tcp web 80", "no"},
	{"S8", "host-access=off", "web", shut, "tcp gw 7000", "no"},
	{"S8", "host-access=off, at the host's other addresses", "web", shut, "tcp host 7000", "no"},
	{"S8", "host-access=off, a ping", "web", shut, "ping gw", "yes"},
	{"S8", "host-access=off, published ports", "web", shut, "tcp host pub", "yes"},
	{"S8", "host-access=off, the outside", "web", shut, "tcp attacker 80", "host"},
	{"S8", "host-access=off, the host to the container", "host", shut, "tcp web 81", "yes"},
	{"S8", "host-access=off on an internal network", "web", shutIn, "tcp gw 7000", "no"},
	{"S8", "host-access=off on an internal network, at the host's other addresses", "web", shutIn, "tcp host 7000", "no"},
	{"S9", "icc=false", "peer", apart, "tcp web 80", "no"},
	{"S9", "icc=false", "peer", apart, "tcp web 81", "no"},
	{"S9", "icc=false", "peer", apart, "ping web", "no"},
	{"S9", "icc=false, a published port of the host", "peer", apart, "tcp host pub", "yes"},
	{"S9", "icc=false, the outside", "peer", apart, "tcp attacker 80", "host"},
	{"S9", "icc=false, nat-unprotected", "peer", apartOpen, "tcp web 80", "no"},
	{"S9", "icc=false, nat-unprotected", "peer", apartOpen, "tcp web 81", "no"},
	{"S9", "icc=false, nat-unprotected, a published port of the host", "peer", apartOpen, "tcp host pub", "yes"},
	{"S9", "icc=false, nat-unprotected, another network", "peer-other", apartOpen, "tcp web 81", "yes"},
	{"S9", "icc=false, routed", "peer", apartWay, "tcp web 80", "no"},
	{"S9", "icc=false, routed", "peer", apartWay, "ping web", "no"},
	{"S9", "icc=false, routed, another network", "peer-other", apartWay, "tcp web 80", "yes"},
}

// question is one cell of the matrix in one address family.
type question struct{ name, client, target, want string }

// matrix asks everything.
func (w *world) matrix() {
	var all []question
	for _, is6 := range []bool{false, true} {
		all = w.asked(all, "", is6)
		for _, r := range extras {
			all = w.ask(all, r.id, r.what, r.client, r.n, r.target, r.want, is6)
		}
	}
	// Ways round icc=false by the host: a route to the neighbour by the gateway.
	for _, n := range []network{apart, apartOpen, apartWay} {
		w.must(n.peer(), "ip", "route", "replace", n.addr(web, false), "via", n.addr(gateway, false))
		w.must(n.peer(), "ip", "-6", "route", "replace", n.addr(web, true), "via", n.addr(gateway, true))
	}
	w.judge(all)
	for _, option := range []string{"icc=false", "host-access=off"} {
		w.update(option)
		w.judge(w.asked(w.asked(nil, option, false), option, true))
		key, _, _ := strings.Cut(option, "=")
		w.update(key + "=")
	}
}

// update gives all networks of the matrix an option, or takes it away.
func (w *world) update(option string) {
	for _, n := range modes {
		w.h.Must("sealane", "network", "update", "-o", option, n.name)
	}
}

// asked appends the rows of networks with an option, in a family.
func (w *world) asked(all []question, with string, is6 bool) []question {
	for _, r := range rows {
		for i, want := range strings.Fields(r.want) {
			if r.with == with {
				all = w.ask(all, r.id, r.what, r.client, modes[i], r.target, want, is6)
			}
		}
	}
	return all
}

// judge asks everything at once and judges the answers in subtests.
func (w *world) judge(all []question) {
	answers := w.probe(all)
	for _, q := range all {
		w.Run(q.name, func(t *testing.T) {
			if got := answers[q.client][q.target]; !same(got, q.want) {
				t.Errorf("%s to %s: %q, want %q", q.client, q.target, got, q.want)
			}
		})
	}
}

// same compares "CLIENT NAME" or "no" with what is wanted; * is any client.
func same(got, want string) bool {
	if name, any := strings.CutPrefix(want, "* "); any {
		return got != "no" && strings.HasSuffix(got, " "+name)
	}
	return got == want
}

// ask appends a cell. What does not exist in a family is not asked.
func (w *world) ask(all []question, id, what, client string, n network, target, want string, is6 bool) []question {
	if want == "." || is6 && id == "S10" && client == "attacker" && strings.Contains(target, " lo ") || !is6 && strings.Contains(target, " ll ") {
		return all
	}
	if client == "web" || client == "peer" {
		client += "-" + n.name
	}
	url, server := place(n, target, is6)
	if want != "no" {
		want = map[string]string{"yes": "*", "client": clientAddr(client, is6), "web": n.addr(web, is6), "host": lan(1, is6)}[want] + " " + server
	}
	family := map[bool]string{false: "IPv4", true: "IPv6"}[is6]
	return append(all, question{strings.Join([]string{id, what, target, n.name, family}, "/"), client, url, want})
}

func lan(host int, is6 bool) string {
	if is6 {
		return fmt.Sprintf("2001:db8::%d", host)
	}
	return fmt.Sprintf("192.0.2.%d", host)
}

func clientAddr(client string, is6 bool) string {
	switch client {
	case "remote":
		return lan(2, is6)
	case "attacker":
		return lan(3, is6)
	}
	return other.addr(peer, is6)
}

// place returns a target's URL and the server that should answer there.
func place(n network, target string, is6 bool) (url, server string) {
	f := append(strings.Fields(target), "")
	proto, where, port := f[0], f[1], f[2]
	addr, server := n.addr(web, is6), n.web()
	switch where {
	case "host":
		addr = lan(1, is6)
	case "ll":
		addr = "fe80::1%eth0"
	case "inner":
		addr = modes[3].addr(gateway, is6)
	case "gw":
		if addr = n.addr(gateway, is6); n.name == "isolated" {
			addr = lan(1, is6)
		}
	case "attacker":
		addr, server = lan(3, is6), "attacker"
	case "lo":
		if addr = "127.0.0.1"; is6 {
			addr = "::1"
		}
	}
	switch port {
	case "pub":
		port = n.port(8000)
	case "8500":
		port = n.port(8500)
	case "9000":
		port = n.port(9000)
	case "7000":
		server = "host"
	case "":
		return proto + "://" + addr, "-"
	}
	return proto + "://" + net.JoinHostPort(addr, port), server
}

// probe has each client try all its targets at once.
func (w *world) probe(all []question) map[string]map[string]string {
	targets := map[string][]string{}
	for _, q := range all {
		targets[q.client] = append(targets[q.client], q.target)
	}
	answers := map[string]map[string]string{}
	var mu sync.Mutex // protects answers
	var done sync.WaitGroup
	for client, list := range targets {
		done.Go(func() {
			got := parseAnswers(w.from(client, append([]string{"lab-echo", "probe", "-timeout", "2500ms"}, list...)))
			mu.Lock()
			defer mu.Unlock()
			answers[client] = got
		})
	}
	done.Wait()
	return answers
}

func parseAnswers(out string) map[string]string {
	got := map[string]string{}
	for line := range strings.Lines(out) {
		target, answer, _ := strings.Cut(strings.TrimSpace(line), " ")
		got[target] = answer
	}
	return got
}

// from runs a command at a client and returns what it prints; a client that
// cannot answers nothing, which no question wants.
func (w *world) from(client string, args []string) string {
	hosts := map[string]*lab.Host{"host": w.h, "remote": w.remote, "attacker": w.attacker, "neighbour": w.neighbour}
	h := hosts[client]
	if h == nil {
		h, args = w.h, in(client, args...)
	}
	return h.Run(args[0], args[1:]...).Stdout
}
