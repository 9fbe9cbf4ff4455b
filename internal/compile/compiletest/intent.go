// Package compiletest reads intent as golden files have it.
package compiletest

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/model"
)

// File is intent as goldens write it: the model's JSON as YAML, with ports as -p takes
// them. A driver that is left out is bridge.
type File struct {
	Facts     compile.Facts
	Networks  []*model.Network
	Sandboxes []struct {
		model.Sandbox
		Publish []string `json:"publish"`
	}
}

// Read reads YAML into a File, or what has one. A field that there is not fails the test.
func Read(t *testing.T, text []byte, into any) {
	t.Helper()
	var plain any
	if err := yaml.Unmarshal(text, &plain); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// Intent returns what the file says, whose networks have to be valid.
func (f *File) Intent(t *testing.T) compile.Intent {
	t.Helper()
	in := compile.Intent{Networks: map[model.ID]*model.Network{}, Sandboxes: map[model.ID]*model.Sandbox{}}
	for _, n := range f.Networks {
		n.Driver = cmp.Or(n.Driver, model.DriverBridge)
		if err := n.Validate(); err != nil {
			t.Fatal(err)
		}
		if n.Overlay != nil {
			n.Overlay.Derive()
		}
		in.Networks[n.ID] = n
	}
	for i := range f.Sandboxes {
		sb := &f.Sandboxes[i].Sandbox
		for _, s := range f.Sandboxes[i].Publish {
			m, err := model.ParsePort(s)
			if err != nil {
				t.Fatal(err)
			}
			sb.Ports = append(sb.Ports, m)
		}
		in.Sandboxes[sb.ID] = sb
	}
	return in
}
