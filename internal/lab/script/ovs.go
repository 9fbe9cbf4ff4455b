package script

import "github.com/sealane/sealane/internal/lab/openvswitch"

// openVSwitch starts or ends programs of a host's Open vSwitch.
func openVSwitch(s *stage, _ bool, args []string) {
	ovs, programs := s.lab.Host(args[0]).OVS(), args[2:]
	signals := map[string]string{"kill9": "KILL", "term": "TERM"}
	if args[1] == "start" {
		if err := ovs.Start(programs...); err != nil {
			s.Fatalf("ovs: %v", err)
		}
		return
	}
	if signals[args[1]] == "" {
		s.Fatalf("usage: ovs HOST start|kill9|term [PROGRAM]")
	}
	if len(programs) == 0 {
		programs = []string{openvswitch.Switch, openvswitch.Server}
	}
	for _, p := range programs {
		if err := ovs.End(p, signals[args[1]]); err != nil {
			s.Fatalf("ovs: %s: %v", p, err)
		}
	}
}
