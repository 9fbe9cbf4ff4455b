package stack

import (
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// The keys of Compose's format (github.com/compose-spec/compose-spec) that are not read.
var (
	// elsewhere are those of a file that the containers' engine reads.
	elsewhere = []string{"configs", "models", "secrets", "volumes"}

	// ofContainers are those of a service.
	ofContainers = strings.Fields(`annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command
		configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset
		credential_spec depends_on develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file
		environment external_links extra_hosts gpus group_add healthcheck hostname image init ipc isolation label_file links
		logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models oom_kill_disable oom_score_adj pid
		pids_limit platform post_start pre_stop privileged provider pull_policy read_only restart runtime scale secrets
		security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket
		user userns_mode uts volumes volumes_from working_dir`)

	// ofTasks are those of deploy.
	ofTasks = []string{"mode", "placement", "replicas", "resources", "restart_policy", "rollback_config", "update_config"}

	// ofEndpoints are those of a service's place on a network.
	ofEndpoints = []string{"driver_opts", "gw_priority", "interface_name", "priority"}
)

// The keys that would make other networks and services than the file says without them,
// and what to do instead.
var (
	refusedTop = map[string]string{
		"include":        "want one file: docker compose config puts them together",
		"endpoints":      "is of a file whose networks are a list, which is no stack",
		extensionOfOurs:  "is a key of services",
		"default_driver": "want driver: at each network",
	}
	refusedOfService = map[string]string{
		"extends":      "want a whole service: docker compose config puts it together",
		"network_mode": "a service is on an overlay network: want networks:",
		"net":          "a service is on an overlay network: want networks:",
		"profiles":     "want only services that are to be there: docker compose config leaves the others out",
	}
	refusedOfEndpoint = map[string]string{
		"ipv4_address":   "is of one container: give it to that; a service's own address is chosen",
		"ipv6_address":   "is of one container: give it to that; a service's own address is chosen",
		"link_local_ips": "are of one container: give them to that",
		"mac_address":    "is of one container: give it to that",
	}
)

// extensionOfOurs is the key of a service for what Compose has no words for.
const extensionOfOurs = "x-sealane"

// The keys that are read.
var (
	networkKeys   = []string{"attachable", "driver", "driver_opts", "enable_ipv4", "enable_ipv6", "external", "internal", "ipam", "labels", "name"}
	serviceKeys   = []string{"deploy", "expose", "labels", "networks", "ports", extensionOfOurs}
	deployKeys    = []string{"endpoint_mode", "labels"}
	ipamKeys      = []string{"config", "driver"}
	poolKeys      = []string{"aux_addresses", "gateway", "ip_range", "subnet"}
	portKeys      = []string{"host_ip", "mode", "protocol", "published", "target"}
	extensionKeys = append([]string{"affinity", "lb", "publish-local-first"}, healthKeys...)
)

func topKeys() []string {
	return append([]string{"name", "networks", "services", "version"}, elsewhere...)
}

// extension reports whether a key is of somebody else's extension of the format.
func extension(key string) bool {
	return strings.HasPrefix(key, "x-") && key != extensionOfOurs
}

// maxListed is how many keys are listed to who has none of them.
const maxListed = 20

// unknown refuses a key: for a reason, or with the nearest of those there are.
func (p pair) unknown(refused map[string]string, known []string) error {
	if why := refused[p.key]; why != "" {
		return p.name.fail("%s", why)
	}
	if near := nearest(p.key, known); near != "" {
		return p.name.fail("not a known key (did you mean %s?)", near)
	}
	if len(known) > maxListed {
		return p.name.fail("not a known key, nor one of Compose's; what is for other programs begins with x-")
	}
	return p.name.fail("not a known key (known: %s)", strings.Join(slices.Sorted(slices.Values(known)), ", "))
}

// nearest is the word that is few letters away from another, or "".
func nearest(word string, words []string) string {
	best, least := "", 1+max(1, len(word)/3)
	if len(word) > 64 {
		return ""
	}
	for _, w := range words {
		if d := model.Distance(word, w); d < least {
			best, least = w, d
		}
	}
	return best
}
