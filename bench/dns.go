package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/api"
)

// resolver is where a container's is, Docker's and ours.
const resolver = "127.0.0.11"

// asked is a container on the same network, whose address is asked for.
const asked = "asked"

// dnsRows measures questions for a container's address from inside another on
// the same network, by dnsperf: our resolver, Docker's, and a socket that sends
// back what it gets, in the same namespace as what it is compared to. Beyond
// some 230,000 a second it is dnsperf, with what it has under way, that limits:
// a ratio near 1 to the echo says no more than that neither server does.
func dnsRows(b *bench) error {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		return fmt.Errorf("install Debian's package dnsperf: %w", err)
	}
	peer, err := b.newDocker()
	if err != nil {
		return err
	}
	defer peer.close()
	theirs, err := peer.asking(b)
	if err != nil {
		return err
	}
	if err := b.echoRow("Docker's", peer.host, theirs, limit{}); err != nil {
		return err
	}
	ours, err := b.newSealane()
	if err != nil {
		return err
	}
	defer ours.close()
	space, err := ours.asking(b)
	if err != nil {
		return err
	}
	if err := b.echoRow("ours", ours.host, space, atLeast(0.6, times)); err != nil {
		return err
	}
	o, err := b.contest(b.times(21), ours.questions(b, space, resolver, dnsPort), peer.questions(b, theirs, resolver, dnsPort))
	if err != nil {
		return err
	}
	b.table.compared("DNS: ours / Docker's", o, perSecond, o.ratio().inverse(), atLeast(1.5, times))
	return b.backRow(ours, space)
}

// backRow measures how long after the start of a daemon that was killed the first
// question is answered.
func (b *bench) backRow(s *sealane, space string) error {
	var took []float64
	for range b.times(21) {
		t, err := timed(func() error {
			if err := s.restart(); err != nil {
				return err
			}
			return s.within(space, 0, exec.CommandContext(b.ctx, filepath.Join(b.bin, "echo"), "dns", "-timeout", "5s", asked).Run)
		})
		if err != nil {
			return fmt.Errorf("names after a restart: %w", err)
		}
		took = append(took, t)
	}
	b.table.absolute("DNS: from kill -9 and a start to the first answer", outcome{ours: took}, atMost(1, seconds))
	return nil
}

// echoRow compares the resolver in a namespace to an echo there.
func (b *bench) echoRow(whose string, h *host, space string, l limit) error {
	e, err := h.echo(space)
	if err != nil {
		return err
	}
	defer e.Close()
	o, err := b.contest(b.times(21), h.questions(b, space, resolver, dnsPort), h.questions(b, space, "127.0.0.1", echoPort))
	if err != nil {
		return err
	}
	b.table.judged("DNS: "+whose+" / an echo", o, perSecond, o.ratio().inverse(), l)
	return nil
}

// The ports of the resolvers and of the echo.
const (
	dnsPort  = 53
	echoPort = 5353
)

// asking makes two sandboxes on one network and returns the first's namespace.
func (s *sealane) asking(b *bench) (string, error) {
	var first api.Sandbox
	for _, name := range []string{asked, "asking"} {
		var err error
		first, err = s.client.CreateSandbox(b.ctx, api.SandboxSpec{Name: name, Networks: []api.EndpointSpec{{Network: network}}})
		if err != nil {
			return "", err
		}
	}
	conf, err := os.ReadFile(s.path(filepath.Join(first.Dir, "resolv.conf")))
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(conf), "nameserver "+resolver) {
		return "", errors.New("a sandbox has no resolver of ours at " + resolver)
	}
	return first.NetNS, nil
}

// asking does the same with containers.
func (d *docker) asking(b *bench) (space string, err error) {
	if err = d.networks(b, network); err != nil {
		return "", err
	}
	for _, name := range []string{asked, "asking"} {
		if space, err = d.idleContainer(b, name, network); err != nil {
			return "", err
		}
	}
	return space, nil
}

// echo sends back what comes in, marked as an answer, until it is closed.
func (h *host) echo(space string) (net.PacketConn, error) {
	var c net.PacketConn
	err := h.within(space, 0, func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), echoPort)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("echo: %w", err)
	}
	go echoes(c.(*net.UDPConn))
	return c, nil
}

func echoes(c *net.UDPConn) {
	for buf := make([]byte, 4096); ; {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if n > 2 {
			buf[2] |= 0x80 // QR, RFC 1035 section 4.1.1
		}
		_, _ = c.WriteToUDPAddrPort(buf[:n], from) // dnsperf counts what is lost
	}
}

// questions returns a run of dnsperf in a namespace, on processor 0. Its result
// is how many answers there were in a second; one in a hundred may be lost.
func (h *host) questions(b *bench, space, server string, port int) block {
	return func() (rate float64, err error) {
		file := filepath.Join(b.bin, "questions")
		if err := os.WriteFile(file, []byte(asked+" A\n"), 0o644); err != nil {
			return 0, err
		}
		var out bytes.Buffer
		err = h.within(space, 0, func() error {
			cmd := exec.CommandContext(b.ctx, "dnsperf", "-s", server, "-p", strconv.Itoa(port), "-c", "20", "-q", "100", "-l", "2", "-d", file)
			cmd.Stdout, cmd.Stderr = &out, &out
			return cmd.Run()
		})
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			return 0, fmt.Errorf("dnsperf: %w", err)
		}
		return answers(out.String(), port == echoPort) // it fails when questions are lost
	}
}

// What dnsperf says at its end.
var (
	rateLine  = regexp.MustCompile(`Queries per second: +([0-9.]+)`)
	lostLine  = regexp.MustCompile(`Queries lost: +[0-9]+ \(([0-9.]+)%\)`)
	codesLine = regexp.MustCompile(`Response codes: +NOERROR [0-9]+ \(100\.00%\)`)
	sizeLine  = regexp.MustCompile(`Average packet size: +request ([0-9]+), response ([0-9]+)`)
)

// answers reads it. An answer with an address is longer than its question, an
// echo's is as long.
func answers(out string, echo bool) (float64, error) {
	rate, lost, size := rateLine.FindStringSubmatch(out), lostLine.FindStringSubmatch(out), sizeLine.FindStringSubmatch(out)
	if rate == nil || lost == nil || size == nil || !codesLine.MatchString(out) || (size[1] == size[2]) != echo {
		return 0, unanswered(out)
	}
	if percent, err := strconv.ParseFloat(lost[1], 64); err != nil || percent >= 1 {
		return 0, unanswered(out)
	}
	return strconv.ParseFloat(rate[1], 64)
}

func unanswered(out string) error {
	_, statistics, _ := strings.Cut(out, "Statistics:")
	return fmt.Errorf("dnsperf: not as it should be answered:%s", statistics)
}
