// Package pipework is the command line of the script of that name, which connects
// containers to bridges and NICs of the host (https://github.com/jpetazzo/pipework):
// a translator into the API. It takes every form that the script takes and leaves
// the same state; what it says and its exit statuses are the script's where other
// scripts may depend on them.
//
//	pipework br1 web 192.168.1.1/24 ── parse ──▶ command ── request ──▶ daemon
//
// Unlike the script, the daemon keeps what a command did when the container is
// started again, and the same command again changes nothing.
package pipework

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// Console is what a command line writes to, and where its daemon is.
type Console struct {
	In       io.Reader
	Out, Err io.Writer
	Socket   string // of the daemon
}

// Timing, the script's: how often and how long it waits for a container to run.
const (
	tries = 3
	pause = time.Second
	look  = 50 * time.Millisecond // of --wait
)

// Run executes a command line without the program's name, and returns its exit
// status: 0, 1, that of ip or tc, or what the script has where ip refuses a word.
func Run(ctx context.Context, c Console, args []string) int {
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
		fmt.Fprintln(c.Out, usage)
		return 0
	}
	cmd, err := parse(args)
	if err == nil {
		var status int
		if status, err = c.do(ctx, cmd); err == nil {
			return status
		}
	}
	if f, ok := errors.AsType[*failure](err); ok {
		to := c.Err
		if f.stdout {
			to = c.Out
		}
		fmt.Fprintln(to, f)
		return max(f.status, 1)
	}
	for _, line := range model.Lines(err) {
		switch {
		case strings.HasPrefix(line, "Link "): // which the script says on stdout
			fmt.Fprintln(c.Out, line)
		case isScripts(line):
			fmt.Fprintln(c.Err, line)
		default:
			fmt.Fprintln(c.Err, "pipework:", line)
		}
	}
	return 1
}

// isScripts reports whether a line of the daemon's is one of the script's, which
// others may read.
func isScripts(line string) bool {
	return strings.HasPrefix(line, "I do not know how to setup interface ") || strings.HasPrefix(line, "Mac address ") || strings.HasPrefix(line, "Docker inspect ")
}

func (c Console) do(ctx context.Context, cmd *command) (int, error) {
	if cmd.verb == wait {
		return 0, waitFor(ctx, cmd.ifName)
	}
	client := api.Dial(c.Socket)
	defer client.Close()
	switch cmd.verb {
	case undo:
		req := api.Unplug{Device: cmd.device, Container: cmd.guest, IfName: cmd.ifName}
		if cmd.whole {
			req.Command = cmd.String()
		}
		return 0, client.Unplug(ctx, req)
	case list:
		return 0, c.list(ctx, client)
	case inside:
		return c.inside(ctx, client, cmd)
	}
	err := running(ctx, func() error { return client.Plug(ctx, cmd.request()) })
	if err != nil && onIPoIB(cmd) {
		err = refuseIPoIB(cmd)
	}
	return 0, err
}

// waitFor waits until an interface is there.
func waitFor(ctx context.Context, name string) error {
	for {
		if _, err := net.InterfaceByName(name); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
	}
}

// running tries again while the container does not run yet.
func running(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if model.KindOf(err) != model.Gone || try == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (c Console) list(ctx context.Context, client *api.Client) error {
	all, err := client.Plugged(ctx)
	for _, p := range all {
		fmt.Fprintln(c.Out, "pipework", p.Command)
	}
	return err
}

// request is what the daemon is asked for.
func (c *command) request() api.Plug {
	req := api.Plug{Device: c.device, Driver: c.driver, VLAN: c.vlan, Container: c.guest, Command: c.String()}
	req.MAC, req.IfName = c.mac, c.ifName
	var v4, v6 []string
	for _, a := range c.addrs {
		if p := netip.MustParsePrefix(a); p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && p.Bits() == 64 {
			req.LinkLocalIPs = append(req.LinkLocalIPs, p.Addr().String())
		} else if p.Addr().Is6() {
			v6 = append(v6, a)
		} else {
			v4 = append(v4, a)
		}
	}
	req.IP, req.IP6 = strings.Join(v4, ","), strings.Join(v6, ",")
	options := map[string]string{}
	if len(c.via) > 0 {
		options["gateway"] = strings.Join(c.via, ",")
	}
	if c.alias != "" {
		options["hostif"] = c.alias
	}
	if c.client != nil {
		c.ask(&req, options)
	}
	if len(options) > 0 {
		req.Options = options
	}
	return req
}

// ask has the address come from a DHCP server, which is told the container's name
// as the script has it.
func (c *command) ask(req *api.Plug, options map[string]string) {
	if c.client.is6 {
		req.IP6 = dhcp
	} else {
		req.IP = dhcp
	}
	name := c.guest[strings.LastIndexAny(c.guest, ":/")+1:]
	if model.CheckHostname(name) == nil {
		options["dhcp-hostname"] = name
	}
	for k, v := range c.client.options {
		options[k] = v
	}
}

// dhcp stands for an address that a DHCP server gives.
const dhcp = "dhcp"

// String is the command in one form for all ways to write it.
func (c *command) String() string {
	words := []string{c.device, "-i", c.ifName}
	if c.driver != "" {
		words[0] = c.driver + ":" + c.device
	}
	if c.alias != "" {
		words = append(words, "-l", c.alias)
	}
	words = append(words, c.guest)
	switch {
	case c.client != nil:
		words = append(words, c.client.String())
	default:
		words = append(words, c.addresses())
	}
	hw := c.mac
	if c.vlan != 0 {
		hw += fmt.Sprintf("@%d", c.vlan)
	}
	if hw != "" {
		words = append(words, hw)
	}
	if c.client != nil && c.client.is6 {
		words = append(words[:1], append([]string{"-a", "6"}, words[1:]...)...)
	}
	return model.CommandLine(words...)
}

// addresses are all with the gateway of its family after the first of each, or after
// 0/0, which is none.
func (c *command) addresses() string {
	gateways := map[bool]string{}
	for _, g := range c.via {
		gateways[strings.Contains(g, ":")] = "@" + g
	}
	var out []string
	for _, a := range c.addrs {
		is6 := strings.Contains(a, ":")
		out = append(out, a+gateways[is6])
		delete(gateways, is6)
	}
	for _, g := range gateways {
		out = append(out, "0/0"+g)
	}
	if slices.Sort(out[len(c.addrs):]); len(out) == 0 {
		return "0/0"
	}
	return strings.Join(out, ",")
}

// onIPoIB reports whether a command is for an InfiniBand device, which the kernel
// refuses to have a device on: it has no addresses of six bytes.
func onIPoIB(c *command) bool {
	const infiniBand = "32" // ARPHRD_INFINIBAND of linux/if_arp.h
	text, err := os.ReadFile("/sys/class/net/" + c.device + "/type")
	return err == nil && strings.TrimSpace(string(text)) == infiniBand && c.driver != "phys"
}

func refuseIPoIB(c *command) error {
	if c.mac != "" {
		return failf("MACADDR configuration unsupported for IPoIB interfaces.")
	}
	return failf("pipework: %s: is IP over InfiniBand: only --direct-phys, which moves it into the container, is supported", c.device)
}
