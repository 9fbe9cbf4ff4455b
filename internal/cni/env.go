package cni

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// The environment that a runtime sets.
const (
	envCommand   = "CNI_COMMAND"
	envContainer = "CNI_CONTAINERID"
	envNetNS     = "CNI_NETNS"
	envIfName    = "CNI_IFNAME"
	envArgs      = "CNI_ARGS"
)

// environment is what a runtime says besides the configuration.
type environment struct {
	container, netns, ifname string
	args                     arguments
}

// readEnvironment reads and checks what a command needs.
func readEnvironment(getenv func(string) string, cmd command) (environment, error) {
	var missing []string
	for _, name := range cmd.needs {
		if getenv(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return environment{}, errorf(codeEnvironment, "%s: missing: %s", cmd.name, strings.Join(missing, ", "))
	}
	env := environment{container: getenv(envContainer), netns: getenv(envNetNS), ifname: getenv(envIfName)}
	if slices.Contains(cmd.needs, envContainer) {
		if err := model.CheckName(env.container); err != nil {
			return env, errorf(codeEnvironment, "%s: %w", envContainer, err)
		}
	}
	if slices.Contains(cmd.needs, envIfName) {
		if err := model.CheckIfName(env.ifname); err != nil {
			return env, errorf(codeEnvironment, "%s: %w", envIfName, err)
		}
	}
	if cmd.lax {
		return env, nil
	}
	if slices.Contains(cmd.needs, envNetNS) {
		if err := checkNetNS(env.netns); err != nil {
			return env, err
		}
	}
	var err error
	env.args, err = parseArguments(getenv(envArgs))
	return env, err
}

// checkNetNS refuses what is surely no container's namespace. The daemon looks
// at the rest.
func checkNetNS(path string) error {
	if !filepath.IsAbs(path) {
		return errorf(codeEnvironment, "%s %q: want an absolute path", envNetNS, path)
	}
	own, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return nil // without /proc there is nothing to compare with
	}
	if there, err := os.Stat(path); err == nil && os.SameFile(own, there) {
		return errorf(codeEnvironment, "%s %s: is the host's own network namespace", envNetNS, path)
	}
	return nil
}

// arguments is CNI_ARGS, as far as it means something here.
type arguments struct {
	ips            []string
	mac            string
	service        string
	pod, namespace string // Kubernetes'
}

// parseArguments reads KEY=VALUE;KEY=VALUE. A key that is not known is an error
// without IgnoreUnknown.
func parseArguments(text string) (arguments, error) {
	var a arguments
	var unknown []string
	ignore := false
	for pair := range strings.SplitSeq(text, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return a, errorf(codeEnvironment, "%s: %q: want KEY=VALUE;KEY=VALUE", envArgs, pair)
		}
		var err error
		switch key {
		case "IgnoreUnknown":
			ignore, err = readSwitch(value)
		case "IP":
			a.ips = slices.DeleteFunc(strings.Split(value, ","), func(s string) bool { return s == "" })
		case "MAC":
			a.mac, err = value, checkMAC(value)
		case "SEALANE_SERVICE":
			a.service = value
		case "K8S_POD_NAME":
			a.pod = value
		case "K8S_POD_NAMESPACE":
			a.namespace = value
		case "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID": // names of the container that nobody types
		default:
			unknown = append(unknown, key)
		}
		if err != nil {
			return a, errorf(codeEnvironment, "%s: %s=%s: %w", envArgs, key, value, err)
		}
	}
	if len(unknown) > 0 && !ignore {
		return a, errorf(codeEnvironment, "%s: %s: not known (known: IP, MAC, SEALANE_SERVICE, IgnoreUnknown, K8S_POD_NAME, K8S_POD_NAMESPACE)", envArgs, strings.Join(unknown, ", "))
	}
	return a, nil
}

func readSwitch(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, errors.New("want 1 or 0")
}

func checkMAC(text string) error {
	if text == "" {
		return nil
	}
	_, err := model.CheckMAC(text)
	return err
}

// name is how users of a runtime call the container, as Podman says it. What Kubernetes
// calls a pod is no name without its namespace.
func (a arguments) name() string {
	if a.namespace != "" || model.CheckName(a.pod) != nil {
		return ""
	}
	return a.pod
}

// aliases are the names that Kubernetes has for a pod. It may have chosen ones
// that are too long for DNS; nobody asked for those.
func (a arguments) aliases() []string {
	var names []string
	for _, name := range []string{a.pod, a.pod + "." + a.namespace} {
		if model.CheckHostname(name) == nil {
			names = append(names, name)
		}
	}
	return names
}
