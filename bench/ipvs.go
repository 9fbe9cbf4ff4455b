package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// balanced is how many backends a service has here, all on the client's host.
const balanced = 4

// ipvsRows measures a service that takes its backends by turns against IPVS, as Docker
// Swarm has it or had it. Where the kernel has no IPVS, Debian's measures, in a guest.
func ipvsRows(b *bench) error {
	if err := hasIPVS(); err != nil {
		if b.built {
			return err
		}
		return b.inGuest("ipvs")
	}
	x, err := newHub()
	if err != nil {
		return err
	}
	defer x.close()
	s, err := x.daemon(b, 2)
	if err != nil {
		return err
	}
	defer s.close()
	ours, err := s.balance()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.log.Bytes())
	}
	for _, w := range swarms {
		if err := b.balanceRow(ours, w); err != nil {
			return fmt.Errorf("%s: %w\n%s", w.what, err, s.log.Bytes())
		}
	}
	return nil
}

// hasIPVS returns what ipvsadm says if the kernel has none.
func hasIPVS() error {
	h, err := newHost()
	if err != nil {
		return err
	}
	defer h.close()
	_, err = h.sh("ipvsadm -Ln")
	return err
}

// sh runs a script in the host, which must work, and returns what it prints.
func (h *host) sh(script string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command("bash", append([]string{"-ec", script, "bash"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, &out, h.attr()
	if err := h.do(cmd.Run); err != nil {
		return "", fmt.Errorf("script: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// crew is a service's address, who asks for it and who answers.
type crew struct {
	from     spot
	backends []spot
	vip      netip.Addr
}

// balance makes a service with its backends, and a container that asks.
func (s *sealane) balance() (crew, error) {
	ctx := context.Background()
	if _, err := s.client.CreateNetwork(ctx, api.NetworkSpec{Name: stretched, Driver: model.DriverOverlay, Subnets: []api.SubnetSpec{{Prefix: "10.7.0.0/16"}}}); err != nil {
		return crew{}, err
	}
	made, err := s.client.CreateService(ctx, api.ServiceSpec{Name: "served", Network: stretched, Ports: []string{fmt.Sprintf("%d/tcp", answerPort)}, LB: string(model.BalanceRound)})
	if err != nil {
		return crew{}, err
	}
	on := api.EndpointSpec{Network: stretched}
	client, err := s.client.CreateSandbox(ctx, api.SandboxSpec{Name: "client", Networks: []api.EndpointSpec{on}})
	c := crew{from: spot{s.host, client.NetNS}, vip: made.VIPs[0]}
	on.Options = map[string]string{"service": made.Name}
	for i := 0; i < balanced && err == nil; i++ {
		var one api.Sandbox
		one, err = s.client.CreateSandbox(ctx, api.SandboxSpec{Name: fmt.Sprint("backend", i), Networks: []api.EndpointSpec{on}})
		c.backends = append(c.backends, spot{s.host, one.NetNS})
	}
	return c, err
}

// swarm is a way in which Docker Swarm has IPVS choose, and what its row is called.
type swarm struct{ what, setup string }

// swarmVIP is the service's address in a swarm.
const swarmVIP = "10.8.0.100"

// wired is namespaces on a bridge: client0, balancer0 and the backends, 10.8.0.1 and so on.
const wired = `
ip link add swarm type bridge
ip link set swarm up
n=0
for ns in client0 balancer0 backend{0..3}; do
  n=$((n+1))
  ip link add port$n master swarm type veth peer name eth0 netns $ns
  ip link set port$n up
  ip -n $ns addr add 10.8.0.$n/24 dev eth0
  ip -n $ns link set eth0 up
done
# balance CHAIN: what goes by a chain of a namespace to the service goes to backends by turns.
balance() {
  iptables -w -t mangle -A $1 -d ` + swarmVIP + ` -j MARK --set-mark 256
  ipvsadm -A -f 256 -s rr
  for n in {3..6}; do ipvsadm -a -f 256 -r 10.8.0.$n -m -w 1; done
}
export -f balance
`

// between is a namespace with the service's address, which backends answer to.
const between = `
ip -n balancer0 addr add ` + swarmVIP + `/32 dev eth0
ip netns exec balancer0 bash -ec '
  balance INPUT
  iptables -w -t nat -A POSTROUTING -m ipvs --ipvs -d 10.8.0.0/24 -j SNAT --to-source 10.8.0.2
  cd /proc/sys/net/ipv4
  echo 1 >ip_forward
  echo 1 >vs/conntrack
  echo 0 >vs/conn_reuse_mode
  echo 1 >vs/expire_nodest_conn
  echo 1 >vs/expire_quiescent_template'
`

// resolving is what Docker rewrites in each container, for its resolver.
const resolving = `
for ns in client0 backend{0..3}; do
  ip netns exec $ns bash -ec '
    iptables -w -t nat -A OUTPUT -d 127.0.0.11/32 -p tcp --dport 53 -j DNAT --to-destination 127.0.0.11:40053
    iptables -w -t nat -A OUTPUT -d 127.0.0.11/32 -p udp --dport 53 -j DNAT --to-destination 127.0.0.11:40053
    iptables -w -t nat -A POSTROUTING -s 127.0.0.11/32 -p tcp --sport 40053 -j SNAT --to-source :53
    iptables -w -t nat -A POSTROUTING -s 127.0.0.11/32 -p udp --sport 40053 -j SNAT --to-source :53'
done
`

// swarms are the barest first. In all of them the bridge is a plain one, without the
// packet filter that Docker's hosts have there.
var swarms = []swarm{
	// As it was until Docker 18.06, without anything else that such a container has.
	{"IPVS NAT rr in the client's namespace", `ip netns exec client0 bash -ec 'balance OUTPUT'`},
	// As it has been since, without anything else; and with it.
	{"IPVS NAT rr in a namespace between", between},
	{"IPVS NAT rr as in Docker Swarm, with its resolver", between + resolving},
}

// balanceRow compares how many connections there are by our service and by a swarm's.
func (b *bench) balanceRow(ours crew, w swarm) error {
	h, err := newHost()
	if err != nil {
		return err
	}
	defer h.close()
	theirs, err := w.build(h)
	if err != nil {
		return err
	}
	return answering(append(theirs.backends, ours.backends...), false, func() error {
		for _, c := range []crew{ours, theirs} {
			if _, err := c.from.asked(c.vip, true, 10*time.Millisecond); err != nil {
				return err
			}
		}
		o, err := b.contest(b.times(21), ours.from.client(ours.vip).connections(), theirs.from.client(theirs.vip).connections())
		if err != nil {
			return err
		}
		b.table.judged("new TCP connections by a service / "+w.what, o, perSecond, o.ratio().inverse(), atLeast(1, times))
		return nil
	})
}

// build makes the swarm.
func (w swarm) build(h *host) (crew, error) {
	c := crew{vip: netip.MustParseAddr(swarmVIP)}
	err := h.filterBridged(false)
	for name, n := range map[string]int{"client": 1, "balancer": 1, "backend": balanced} {
		_, failed := h.spaces(name, n)
		err = errors.Join(err, failed)
	}
	c.from = spot{h, spacePaths("client", 1)[0]}
	for _, p := range spacePaths("backend", balanced) {
		c.backends = append(c.backends, spot{h, p})
	}
	if err == nil {
		_, err = h.sh(wired + w.setup)
	}
	return c, err
}
