package linux

// SwitchOf returns the bridge of Open vSwitch that a device of the host is a port
// of, also where the kernel does not tell; "" is none, or no database that answers.
func (l *Linux) SwitchOf(device string) string {
	bridge, err := l.ovs.PortOf(device)
	if err != nil {
		return ""
	}
	return bridge
}
