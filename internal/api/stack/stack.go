// Package stack reads stack files: the part of Compose's format that is about
// networks and services, as declarations of the API. What Compose has and Sealane has
// not is refused where it would change a network, and else noted.
package stack

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// Options are what is not in the file.
type Options struct {
	File      string            // what errors call it; "" is stack
	Name      string            // of the stack, instead of the file's
	Variables map[string]string // that ${NAME} stands for
}

// defaultNetwork is the key of the network of services that name none.
const defaultNetwork = "default"

// Is reports whether a document is of Compose's format rather than a declaration in the
// API's own words: its networks or services are mappings, or it has a name.
func Is(doc *yaml.Node) bool {
	if doc.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(doc.Content); i += 2 {
		v := doc.Content[i+1]
		if v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		switch doc.Content[i].Value {
		case "name":
			return true
		case "networks", "services":
			if v.Kind == yaml.MappingNode {
				return true
			}
		}
	}
	return false
}

// file is what is read so far.
type file struct {
	*reader
	name     string
	networks map[string]*network // by key
	order    []string            // their keys
	services []service
	notes    []string
}

// Read reads a document that [Is] of Compose's format. Errors begin with file, line and
// path: "stack.yaml:12: services.web.ports[0]: …"; they are of kind Invalid.
func Read(doc *yaml.Node, o Options) (api.Declaration, error) {
	if o.File == "" {
		o.File = "stack"
	}
	f := &file{reader: &reader{file: o.File, vars: o.Variables, left: maxValues}, networks: map[string]*network{}}
	root := value{r: f.reader, n: doc}
	if err := f.top(root, o.Name); err != nil {
		return api.Declaration{}, err
	}
	if err := f.settle(root); err != nil {
		return api.Declaration{}, err
	}
	return f.declaration(), nil
}

// top reads the keys of the file, networks before services.
func (f *file) top(root value, name string) error {
	all, err := root.pairs()
	if err != nil {
		return err
	}
	f.name = name
	var services *value
	var left []string
	for _, p := range all {
		switch {
		case p.key == "name":
			err = f.title(p.value, name)
		case p.key == "networks":
			err = f.readNetworks(p.value)
		case p.key == "services":
			services = &p.value
		case slices.Contains(elsewhere, p.key):
			left = append(left, p.key)
		case p.key == "version", extension(p.key):
		default:
			err = p.unknown(refusedTop, topKeys())
		}
		if err != nil {
			return err
		}
	}
	if len(left) > 0 {
		f.note(root, "%s: not Sealane's, left to the containers' engine", strings.Join(left, ", "))
	}
	if services == nil {
		return nil
	}
	return f.readServices(*services)
}

// title reads the stack's name, of which another one may take the place.
func (f *file) title(v value, instead string) error {
	text, err := v.text()
	if err == nil && instead == "" {
		f.name = text
	}
	return err
}

// settle checks what several parts of the file say together.
func (f *file) settle(root value) error {
	switch err := model.CheckName(f.name); {
	case f.name == "":
		return root.fail("name: missing: want name: NAME, that of the stack")
	case err != nil:
		return root.fail("name: %w", err)
	}
	if err := f.place(); err != nil {
		return err
	}
	return f.distinct()
}

// note adds a line about what is not done, without what line it is on but once.
func (f *file) note(v value, format string, args ...any) {
	f.notes = append(f.notes, v.where()+": "+fmt.Sprintf(format, args...))
}

// declaration is the file in the API's words.
func (f *file) declaration() api.Declaration {
	d := api.Declaration{Stack: f.name, Notes: f.notes}
	for _, key := range f.order {
		n := f.networks[key]
		if n.external {
			d.External = append(d.External, n.spec.Name)
			continue
		}
		d.Networks = append(d.Networks, n.spec)
	}
	for _, s := range f.services {
		if len(s.spec.Ports) > 0 {
			d.Services = append(d.Services, s.spec)
		}
	}
	return d
}
