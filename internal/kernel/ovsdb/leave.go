package ovsdb

import "maps"

// left notes ports that are gone by a configuration that ovs-vswitchd has not come
// to yet, and forgets those that are gone by one that it has.
func (c *Conn) left(devices []string, config, done int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, dev := range devices {
		c.leaving[dev] = config
	}
	c.settledLocked(done)
}

func (c *Conn) settledLocked(done int) {
	maps.DeleteFunc(c.leaving, func(_ string, config int) bool { return config <= done })
}

// leavers are how many ports ovs-vswitchd may still have.
func (c *Conn) leavers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.leaving)
}

// LetGo waits until ovs-vswitchd has let go of those among devices that Apply took
// from it, which it does sooner or later. Whoever makes a device anew under its
// name waits for that first: with the old one ovs-vswitchd takes the new one down.
// One that does not come to it is not waited for twice.
func (c *Conn) LetGo(devices ...string) {
	c.mu.Lock()
	config, s, ports := 0, c.sess, len(c.leaving)
	for _, dev := range devices {
		config = max(config, c.leaving[dev])
	}
	c.mu.Unlock()
	if config == 0 || s == nil {
		return
	}
	_ = s.settle(config, ports) // what is made on it finds out why
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settledLocked(config)
}
