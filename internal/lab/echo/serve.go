package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxBytes bounds what /bytes/N sends.
const maxBytes = 1 << 30

// serve listens on all ports before it says ready, then runs for ever.
func serve(args []string) error {
	f := flags("serve")
	tcp := f.String("tcp", "", "")
	udp := f.String("udp", "", "")
	addr := f.String("addr", "", "")
	name := f.String("name", "", "")
	f.Parse(args)
	tcpPorts, err := ports(*tcp)
	if err != nil {
		return err
	}
	udpPorts, err := ports(*udp)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for _, p := range tcpPorts {
		l, err := net.Listen("tcp", net.JoinHostPort(*addr, p))
		if err != nil {
			return err
		}
		go func() { failed <- server(*name).Serve(l) }()
	}
	for _, p := range udpPorts {
		c, err := net.ListenPacket("udp", net.JoinHostPort(*addr, p))
		if err != nil {
			return err
		}
		go func() { failed <- serveUDP(c, *name) }()
	}
	fmt.Println("ready")
	return <-failed
}

// ports parses a list of ports and ranges of ports.
func ports(list string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(list, ",") {
		if part == "" {
			continue
		}
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			return nil, err
		}
		last, err := strconv.ParseUint(to, 10, 16)
		if err != nil {
			return nil, err
		}
		for p := first; p <= last; p++ {
			out = append(out, strconv.FormatUint(p, 10))
		}
	}
	return out, nil
}

// headerResent tells a client how many segments of the server's got lost.
const headerResent = "Lab-Resent"

// connKey finds a request's connection in its context.
type connKey struct{}

func server(name string) *http.Server {
	return &http.Server{
		Handler:     mux(name),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
}

// resent is how many segments a connection's end had to send again.
func resent(c net.Conn) int {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Total_retrans)
		}
	})
	return n
}

func mux(name string) *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		w.Header().Set(headerResent, strconv.Itoa(resent(r.Context().Value(connKey{}).(net.Conn))))
		fmt.Fprint(w, report(r.RemoteAddr, local.String(), name))
	})
	m.HandleFunc("/bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("n"))
		if err != nil || n < 0 || n > maxBytes {
			http.Error(w, "how many?", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(n))
		chunk := bytes.Repeat([]byte("0123456789abcde\n"), 4096)
		for ; n > 0; n -= len(chunk) {
			if _, err := w.Write(chunk[:min(n, len(chunk))]); err != nil {
				return
			}
		}
	})
	return m
}

func serveUDP(c net.PacketConn, name string) error {
	buf := make([]byte, 1<<16)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		// An answer that cannot be sent is lost, as datagrams are.
		c.WriteTo([]byte(report(from.String(), c.LocalAddr().String(), name)), from)
	}
}

// report says who asked and who answers.
func report(client, server, name string) string {
	var b strings.Builder
	from, _ := netip.ParseAddrPort(client)
	fmt.Fprintf(&b, "client %s\nport %d\nserver %s\n", from.Addr().Unmap().WithZone(""), from.Port(), unmap(server))
	if name != "" {
		fmt.Fprintf(&b, "name %s\n", name)
	}
	host, _ := os.Hostname()
	ns, _ := os.Readlink("/proc/self/ns/net")
	fmt.Fprintf(&b, "host %s\nnetns %s\n", host, strings.Trim(ns, "net:[]"))
	return b.String()
}

// unmap writes an IPv4 address as such also when an IPv6 socket has it.
func unmap(s string) string {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return s
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
}
