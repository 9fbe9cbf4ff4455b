package main

func statusChecks() []check {
	const since = "1.1.0"
	return []check{
		{"status.ready", "STATUS", "must", "STATUS succeeds when ADD does, and prints nothing", since, func(t *trial) error {
			n, err := t.newNetwork(24)
			if err != nil {
				return err
			}
			o := t.exec(call{command: "STATUS", conf: n.conf(t.newest())})
			if o.code == 0 && len(o.stdout) > 0 {
				return seen("%v", o)
			}
			return o.succeeded()
		}},
		{"status.exhausted", "STATUS", "should", "STATUS fails with code 50 or 51 when all addresses are taken", since, func(t *trial) error {
			n, err := t.newNetwork(29)
			if err != nil {
				return err
			}
			if _, err := t.fill(n); err != nil {
				return err
			}
			return t.exec(call{command: "STATUS", conf: n.conf(t.newest())}).refused([]uint{50, 51})
		}},
		{"status.old", "Section 1", "sense", "STATUS with `cniVersion` 1.0.0, which has no STATUS, fails with code 1", since, func(t *trial) error {
			return t.tooOld("STATUS", "1.0.0")
		}},
	}
}

// serviceChecks end what -setup started.
func serviceChecks() []check {
	return []check{
		{"service.add", "Error", "should", "ADD without the daemon that it needs fails with code 11 (try again later), and makes nothing", "", func(t *trial) error {
			if t.setup == nil {
				return inapplicable("it needs no daemon")
			}
			if err := t.stop(); err != nil {
				return err
			}
			return t.refuses([]uint{11})
		}},
		{"service.del", "DEL", "sense", "DEL without the daemon that it needs fails with code 11, or succeeds", "", func(t *trial) error {
			if t.setup == nil {
				return inapplicable("it needs no daemon")
			}
			n, err := t.newNetwork(24)
			if err != nil {
				return err
			}
			o := t.exec(call{command: "DEL", conf: n.conf(t.newest()), on: &space{"nobody", "/run/netns/nobody"}, ifname: "eth0"})
			if o.code == 0 {
				return nil
			}
			return o.refused([]uint{11})
		}},
		{"service.status", "STATUS", "should", "STATUS without the daemon that it needs fails with code 50 or 51", "1.1.0", func(t *trial) error {
			if t.setup == nil {
				return inapplicable("it needs no daemon")
			}
			n, err := t.newNetwork(24)
			if err != nil {
				return err
			}
			return t.exec(call{command: "STATUS", conf: n.conf(t.newest())}).refused([]uint{50, 51})
		}},
	}
}
