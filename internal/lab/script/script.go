// Package script runs whole-system scripts: testscript files with commands
// that build a lab and act in its hosts. Every script has a lab of its own in
// which host a is there from the start. Only set-up commands are particular
// to the lab; everything else is `on HOST` and the product's own commands.
//
//	require FEATURE…               skip the script where the kernel lacks one (see package feature)
//	host NAME…                     make hosts; any command that names one does too
//	switch NAME…                   make switches
//	plug HOST SWITCH IF [ADDR…]    connect a host; ADDR has a prefix length
//	cut HOST IF · mend HOST IF     pull the cable, put it back
//	whole HOST IF                  send checksums and whole frames, as a cable carries them
//	route HOST DST GATEWAY         DST is a prefix or default
//	netns HOST NAME                make a foreign namespace, at /run/netns/NAME
//	[!] on HOST CMD…               run to the end; stdout and stderr can be matched
//	try HOST CMD…                  the same, whatever the exit status
//	status N HOST CMD…             the same, the exit status has to be N
//	[!] sealane ARG…               on a sealane ARG…
//	bg HOST CMD…                   run on until the script ends
//	echo HOST FLAG…                bg lab-echo serve FLAG…, and wait until it listens
//	wait-for HOST TIMEOUT CMD…     try again until it succeeds
//	daemon HOST [ARG…]             start the daemon, wait until it is ready
//	kill9 HOST                     kill the daemon with -9
//	term HOST                      stop the daemon with SIGTERM; it exits 0
//	restart HOST                   start the daemon again, as it was started
//	log HOST [TEXT]                print the daemon's log, once TEXT is in it
//	ovs HOST start [PROGRAM]       start Open vSwitch: ovsdb-server, ovs-vswitchd or both
//	ovs HOST kill9|term [PROGRAM]  end it
//	[!] fetch HOST URL             print what HTTP answers
//	[!] udp HOST ADDR:PORT         print what lab-echo answers a datagram
//	[!] ping HOST ADDR             one ICMP echo request
//	reach HOST URL CLIENT [SERVER] fetch (http://…) or udp (udp://ADDR:PORT) from lab-echo, which
//	                               sees the client address CLIENT and has the name SERVER
//	state HOST FILE                write what the kernel holds to FILE, to be compared
//	heals HOST                     wait until sealane diff is empty: a second, and more on a busy machine
//	refuse N HOST CMD…             status N with one line on stderr, and nothing is changed by it
//
// Where a command runs on HOST, HOST/NAME means in a sandbox of it. Commands on
// hosts run in the script's directory, with its WORK and TMPDIR. TESTS is the
// directory of the Go test.
package script

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealane/sealane/internal/lab"
)

// Run runs the scripts of dir, each as a subtest.
func Run(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		Setup:               setup,
		Cmds:                commands(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// key finds a script's stage among the script's values.
type key struct{}

// stage is one script's lab.
type stage struct {
	env *testscript.Env
	ts  *testscript.TestScript // of the command that runs; nil before the first
	lab *lab.Lab

	last lab.Result        // what was printed last
	seen map[string]string // what refuse last saw on a host, if it was the last command
}

func setup(env *testscript.Env) error {
	s := &stage{env: env}
	s.lab = lab.New(s)
	env.Values[key{}] = s
	env.Setenv("HOME", env.WorkDir)
	tests, err := os.Getwd()
	if err != nil {
		return err
	}
	env.Setenv("TESTS", tests)
	s.lab.Host("a")
	return nil
}

// Helper is there for lab.T; a script's line says where it failed.
func (s *stage) Helper() {}

// Fatalf fails the script at its line.
func (s *stage) Fatalf(format string, args ...any) {
	if s.ts == nil {
		s.env.T().Fatal(fmt.Sprintf(format, args...))
	}
	s.ts.Fatalf(format, args...)
}

// Logf is printed if the script fails.
func (s *stage) Logf(format string, args ...any) {
	s.env.T().Log(fmt.Sprintf(format, args...))
}

// Cleanup calls f when the script has ended.
func (s *stage) Cleanup(f func()) { s.env.Defer(f) }
