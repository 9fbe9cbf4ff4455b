package main

import "net/netip"

func argumentChecks() []check {
	return []check{
		{"args.ignored", "CONVENTIONS", "convention", "CNI_ARGS with IgnoreUnknown=1 and a key that it does not know is accepted", "", func(t *trial) error {
			_, err := t.fresh(variable("CNI_ARGS", "IgnoreUnknown=1;FOO=BAR"))
			return err
		}},
		{"args.kubelet", "CONVENTIONS", "convention", "CNI_ARGS as kubelet's runtimes give them are accepted", "", func(t *trial) error {
			_, err := t.fresh(variable("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=0123456789abcdef;K8S_POD_UID=8d9c1f3e-6f0c-4a43-9d2e-2a2f5b3b7c11"))
			return err
		}},
		{"args.unknown", "CONVENTIONS", "convention", "a key that it does not know, without IgnoreUnknown, is ignored, or refused with an error object", "", func(t *trial) error {
			return t.either(variable("CNI_ARGS", "FOO=BAR"))
		}},
		{"args.malformed", "Parameters", "sense", "CNI_ARGS that are no pairs are ignored, or refused with an error object", "", func(t *trial) error {
			return t.either(variable("CNI_ARGS", "FOO;=;BAR=1=2"))
		}},
		{"args.ip", "CONVENTIONS", "convention", "CNI_ARGS with IgnoreUnknown=1 and IP=ADDRESS gives that address", "", func(t *trial) error {
			return t.asked(func(p netip.Prefix) option { return variable("CNI_ARGS", "IgnoreUnknown=1;IP="+p.String()) })
		}},
		{"args.config-ips", "CONVENTIONS", "convention", "`args.cni.ips` of the configuration gives that address", "", func(t *trial) error {
			return t.asked(argsIPs)
		}},
		{"args.both", "CONVENTIONS", "convention", "with another IP=ADDRESS in CNI_ARGS so it does, and that one is ignored", "", func(t *trial) error {
			return t.asked(func(p netip.Prefix) option {
				other := variable("CNI_ARGS", "IgnoreUnknown=1;IP="+netip.PrefixFrom(p.Addr().Next(), p.Bits()).String())
				return func(c *call) { argsIPs(p)(c); other(c) }
			})
		}},
		{"args.labels", "CONVENTIONS", "convention", "`args.cni.labels` and what it does not know in `args` are accepted", "", func(t *trial) error {
			_, err := t.fresh(key("args", map[string]any{
				"cni":         map[string]any{"labels": []any{map[string]string{"key": "app", "value": "web"}}},
				"org.example": []any{true, 1.5, nil},
			}))
			return err
		}},
	}
}

// argsIPs asks for an address in args.
func argsIPs(p netip.Prefix) option {
	return key("args", map[string]any{"cni": map[string]any{"ips": []string{p.String()}}})
}

// either accepts an ADD that succeeds as well as one that is refused in words,
// and notes which it was.
func (t *trial) either(opt option) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	return t.attach(n, c, "eth0", opt).try().politely(nil)
}
