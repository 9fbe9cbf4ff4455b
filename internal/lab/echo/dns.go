package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// askDNS prints the answer to a question: its code, and its records sorted.
func askDNS(args []string) error {
	f := flags("dns")
	timeout := f.Duration("timeout", 5*time.Second, "")
	server := f.String("server", "127.0.0.11", "")
	typ := f.String("type", "A", "")
	tcp := f.Bool("tcp", false, "")
	length := f.Duration("for", 0, "")
	name := argument(f, args)
	t, ok := dns.StringToType[*typ]
	if !ok {
		return fmt.Errorf("%s: no type of records", *typ)
	}
	if t == dns.TypePTR && !strings.HasSuffix(name, "arpa") {
		reverse, err := dns.ReverseAddr(name)
		if err != nil {
			return err
		}
		name = reverse
	}
	c := dns.Client{Timeout: *timeout}
	if *tcp {
		c.Net = "tcp"
	}
	if *length > 0 {
		return keepAsking(&c, *length, net.JoinHostPort(*server, "53"), name, t)
	}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), t), net.JoinHostPort(*server, "53"))
	if err != nil {
		return err
	}
	fmt.Println(dns.RcodeToString[m.Rcode])
	for _, line := range records(m) {
		fmt.Println(line)
	}
	return nil
}

// Between one question and the next.
const askEvery = 10 * time.Millisecond

// keepAsking prints how long answers took. One that the server has none for
// is none.
func keepAsking(c *dns.Client, length time.Duration, server, name string, typ uint16) error {
	var took []time.Duration
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(askEvery) {
		begun := time.Now()
		q := new(dns.Msg).SetQuestion(dns.Fqdn(strings.ReplaceAll(name, "#", fmt.Sprint(begun.UnixNano()))), typ)
		m, _, err := c.Exchange(q, server)
		if err == nil && m.Rcode == dns.RcodeServerFailure {
			err = errors.New("SERVFAIL")
		}
		if err != nil {
			return fmt.Errorf("after %d answers: %w", len(took), err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	n := len(took)
	fmt.Printf("answers %d\nmedian %v\np99 %v\nlongest %v\n", n, took[n/2], took[n*99/100], took[n-1])
	return nil
}

// records are the records of an answer as "NAME TTL CLASS TYPE VALUE".
func records(m *dns.Msg) []string {
	var out []string
	for _, rr := range slices.Concat(m.Answer, m.Extra) {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	slices.Sort(out)
	return out
}

// nameserver is what a nameserver knows: addresses by name.
type nameserver struct {
	code   int // of every answer
	silent bool
	hosts  map[string][]netip.Addr // by names that end with a dot
}

// serveDNS prints "ready", then each question that it is asked.
func serveDNS(args []string) error {
	f := flags("nameserver")
	addr := f.String("addr", "", "")
	code := f.String("code", "NOERROR", "")
	silent := f.Bool("silent", false, "")
	f.Parse(args)
	s, err := newNameserver(f, *code, *silent)
	if err != nil {
		return err
	}
	at := net.JoinHostPort(*addr, "53")
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	failed := make(chan error)
	go func() { failed <- (&dns.Server{PacketConn: c, Handler: s}).ActivateAndServe() }()
	go func() { failed <- (&dns.Server{Listener: l, Handler: s}).ActivateAndServe() }()
	fmt.Println("ready")
	return <-failed
}

// newNameserver reads what the server knows from the arguments NAME=ADDR.
func newNameserver(f *flag.FlagSet, code string, silent bool) (*nameserver, error) {
	rcode, ok := dns.StringToRcode[code]
	if !ok {
		return nil, fmt.Errorf("%s: no code of answers", code)
	}
	s := &nameserver{rcode, silent, map[string][]netip.Addr{}}
	for _, arg := range f.Args() {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, errors.New("want NAME=ADDR")
		}
		a, err := netip.ParseAddr(value)
		if err != nil {
			return nil, err
		}
		s.hosts[dns.Fqdn(name)] = append(s.hosts[dns.Fqdn(name)], a)
	}
	return s, nil
}

// ServeDNS prints the question as "CLIENT NAME TYPE" and answers it.
func (s *nameserver) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	q := m.Question[0]
	from, _ := netip.ParseAddrPort(w.RemoteAddr().String())
	fmt.Fprintln(os.Stdout, from.Addr().Unmap(), q.Name, dns.TypeToString[q.Qtype])
	if s.silent {
		return
	}
	r := new(dns.Msg).SetRcode(m, s.code)
	addrs, known := s.hosts[strings.ToLower(q.Name)]
	if !known && s.code == dns.RcodeSuccess {
		r.Rcode = dns.RcodeNameError
	}
	for _, a := range addrs {
		h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 60}
		switch {
		case q.Qtype == dns.TypeA && a.Is4():
			r.Answer = append(r.Answer, &dns.A{Hdr: h, A: a.AsSlice()})
		case q.Qtype == dns.TypeAAAA && a.Is6():
			r.Answer = append(r.Answer, &dns.AAAA{Hdr: h, AAAA: a.AsSlice()})
		}
	}
	// An answer that cannot be sent is lost, as datagrams are.
	w.WriteMsg(r)
}
