// Command lab-echo is what tests run on both ends of a network: a server that
// says whom it sees and where it runs, and clients that print what they got.
package main

import (
	"flag"
	"fmt"
	"os"
)

const usage = `usage:
  lab-echo serve [-tcp PORTS] [-udp PORTS] [-addr ADDR] [-name NAME]
        Serve HTTP and UDP on PORTS (80,8000-8010), print "ready", run on.
        / and a datagram are answered with lines of "KEY VALUE": client, port,
        server, name, host, netns. /bytes/N is answered with N bytes.
  lab-echo udp [-timeout D] [-from PORT] [-size BYTES] ADDR:PORT
        Send a datagram and print the answer.
  lab-echo get [-timeout D] [-from PORT] [-send BYTES] URL
        Print the body of an HTTP answer, to a question with a body of so many bytes.
  lab-echo rate [-for D] URL
        Read an answer's body for a while and print how many kilobits of it came
        in a second: "kbit N".
  lab-echo ping [-timeout D] [-size N] [-whole] ADDR
        Exit 0 if ADDR answers one ICMP or ICMPv6 echo request. With -whole nobody
        may cut it: of one that is too big, print the "mtu" that is said to fit.
  lab-echo stream [-for D] [-every D] [-who] URL
        Ask again and again on one connection; with -who, print who answers at first,
        "with NAME"; fail if the connection breaks, else print the number of answers,
        the longest gap between two, and how often either end "resent" something that
        was lost.
  lab-echo requests [-every D] [-timeout D] URL
        Ask at that pace until SIGTERM, each time on a new connection. Print when the
        first that NAME answered began, "first MS NAME", and each without an answer,
        "failure MS TOOK: WHY"; at last who "answered" how many, "sent" and "failed".
        MS is milliseconds since 1970.
  lab-echo pings [-for D] [-every D] ADDR
        Send echo requests at that pace; print how many were "sent" and how many
        had no reply, as "lost", and the time "of" each of these.
  lab-echo probe [-timeout D] TARGET...
        Try all targets at once: tcp://ADDR:PORT, udp://ADDR:PORT, ping://ADDR.
        Print for each "TARGET CLIENT NAME" as lab-echo serve answers it, with -
        for what it does not say, or "TARGET no".
  lab-echo dns [-timeout D] [-server ADDR] [-type TYPE] [-tcp] [-for D] NAME
        Ask 127.0.0.11 or ADDR, and print the answer's code and records. With
        -type PTR, NAME may be an address. With -for, ask again and again; fail
        if one question has no answer, else print how many had and how long they
        took: the median, all but one of 100, and the longest. # in NAME is a
        number that is new each time.
  lab-echo pester [-for D] [-mode udp|tcp|half] [-domain DOMAIN] SERVER
        Ask for random names of DOMAIN as fast as possible and take no answer,
        or begin questions over TCP and do not go on. Print "asked N".
  lab-echo crowd [-count N] [-from ADDR] ADDR:PORT
        Open N connections and hold them; print how many were "opened", "failed",
        and are still "alive", then "ready".
  lab-echo nameserver [-addr ADDR] [-code CODE] [-silent] [NAME=ADDR...]
        Serve names on port 53, print "ready" and then each question as
        "CLIENT NAME TYPE". Every answer has CODE, or there is none.
  lab-echo send [-for D] [-every D] IF FRAME...
        Send Ethernet frames, in hexadecimal; once or again and again.
  lab-echo sniff IF
        Print "ready", then each frame that comes in, in hexadecimal.
  lab-echo flannel IF ADDR SUBNET=ADDR...
        Make a TUN device, print "ready", and carry packets between it and other
        hosts' subnets as flanneld with backend udp at ADDR does.
  lab-echo wireguard IF FILE
        Make a TUN device, do with it what FILE says in the lines of WireGuard's
        configuration protocol, print "ready", and carry packets.
  lab-echo activate [NAME=]SOCKET... CMD [ARG...]
        Become CMD with a listening unix socket, as systemd starts a service.
  lab-echo notified SOCKET
        Print the first datagram that comes in, as systemd hears of readiness.
`

func main() {
	commands := map[string]func([]string) error{
		"serve": serve, "udp": askUDP, "get": get, "rate": rate, "ping": ping, "pings": pings, "stream": stream, "requests": requests,
		"probe": probe, "dns": askDNS, "nameserver": serveDNS, "crowd": crowd, "pester": floodDNS, "send": sendFrames, "sniff": sniff, "flannel": carry, "wireguard": encrypt, "activate": activate, "notified": notified,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "lab-echo: %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// flags returns the flag set of a command.
func flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ExitOnError)
	f.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	return f
}

// argument parses args and returns the one that is no flag.
func argument(f *flag.FlagSet, args []string) string {
	f.Parse(args)
	if f.NArg() != 1 {
		f.Usage()
		os.Exit(2)
	}
	return f.Arg(0)
}
