package facts

import (
	"os"
	"strconv"
	"strings"
)

// neighbourRoom is how many neighbours the kernel is to keep, of each family, that nobody
// has said: as many as Docker has it keep for its overlay networks.
const neighbourRoom = 65536

// Neighbours lists the settings that give the kernel room for fewer neighbours than hosts
// need that are on one link with thousands, with the value that each is to have. ours says of
// which we have changed: those are among them, and stay when they have more by now.
//
// There is one table of each family for all namespaces, and only the first of them, whose
// name is init_net, has its settings: elsewhere there are none.
func Neighbours(ours func(name string) bool) map[string]string {
	return neighbours(ours, func(name string) string {
		b, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		return strings.TrimSpace(string(b))
	})
}

func neighbours(ours func(name string) bool, read func(name string) string) map[string]string {
	scarce := map[string]string{}
	for _, name := range []string{"net.ipv4.neigh.default.gc_thresh3", "net.ipv6.neigh.default.gc_thresh3"} {
		have, err := strconv.Atoi(read(name))
		if err == nil && (have < neighbourRoom || ours(name)) {
			scarce[name] = strconv.Itoa(max(have, neighbourRoom))
		}
	}
	return scarce
}
