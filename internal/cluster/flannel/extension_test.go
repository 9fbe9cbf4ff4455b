package flannel

import (
	"net/netip"
	"strings"
	"testing"
)

func TestExtensionConfig(t *testing.T) {
	const text = `{"Network":"10.5.0.0/16","Backend":{"Type":"extension","PreStartupCommand":"a","PostStartupCommand":"b","ShutdownCommand":"c","SubnetAddCommand":"d","SubnetRemoveCommand":"e"}}`
	c, err := ParseConfig([]byte(text))
	if err != nil || c.Backend != (Extension{"a", "b", "c", "d", "e"}) {
		t.Fatalf("%+v, %v", c.Backend, err)
	}
	if again, err := c.Marshal(); err != nil || string(again) != text {
		t.Errorf("%s, %v", again, err)
	}
}

func TestExtensionData(t *testing.T) {
	text, err := MarshalExtension("76:8a:00:46:cd:33\n<two> \"lines\"")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseExtension(text); err != nil || got != "76:8a:00:46:cd:33\n<two> \"lines\"" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ParseExtension(nil); err != nil || got != "" {
		t.Errorf("of a host that says nothing: %q, %v", got, err)
	}
	if _, err := MarshalExtension(strings.Repeat("x", maxExtension+1)); err == nil {
		t.Error("too long to be told, and is")
	}
	c, err := ParseConfig([]byte(`{"Network":"10.5.0.0/16","Backend":{"Type":"extension"}}`))
	if err != nil {
		t.Fatal(err)
	}
	s := Subnet{V4: netip.MustParsePrefix("10.5.2.0/24")}
	for data, want := range map[string]string{
		``: "", `,"BackendData":"x"`: "", `,"BackendData":7`: "BackendData", `,"BackendData":{"VNI":1}`: "BackendData",
		`,"BackendData":"` + strings.Repeat("x", maxExtension+1) + `"`: "at most 65536",
	} {
		v, err := ParseValue([]byte(`{"PublicIP":"192.0.2.2","BackendType":"extension"` + data + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.check(c, s); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40s: %v, want %q", data, err, want)
		}
	}
}
