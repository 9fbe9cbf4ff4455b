package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// parsePublish checks ports as -p takes them and returns their short forms,
// which is what the API takes.
func parsePublish(texts []string) ([]string, error) {
	var out []string
	for _, text := range texts {
		short := text
		if strings.Contains(text, "=") {
			var err error
			if short, err = shorten(text); err != nil {
				return nil, err
			}
		}
		if _, err := model.ParsePort(short); err != nil {
			return nil, err
		}
		out = append(out, short)
	}
	return out, nil
}

// shorten turns Docker's long form into the short one:
// published=8080,target=80,protocol=tcp,host-ip=A.
func shorten(text string) (string, error) {
	known := []string{"published", "target", "protocol", "host-ip"}
	kv := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(part, "=")
		switch {
		case !ok || v == "":
			return "", fmt.Errorf("port %q: %q: want KEY=VALUE", text, part)
		case !slices.Contains(known, k):
			return "", fmt.Errorf("port %q: key %q: not known (known: %s)", text, k, strings.Join(known, ", "))
		case kv[k] != "":
			return "", fmt.Errorf("port %q: %s: is there twice", text, k)
		}
		kv[k] = v
	}
	if kv["target"] == "" {
		return "", fmt.Errorf("port %q: target: missing", text)
	}
	short := kv["target"]
	if kv["published"] != "" || kv["host-ip"] != "" {
		short = kv["published"] + ":" + short
	}
	if ip := kv["host-ip"]; ip != "" {
		if strings.Contains(ip, ":") {
			ip = "[" + strings.Trim(ip, "[]") + "]"
		}
		short = ip + ":" + short
	}
	if kv["protocol"] != "" {
		short += "/" + kv["protocol"]
	}
	return short, nil
}
