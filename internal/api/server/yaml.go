package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"
)

// maxNodes bounds what aliases can expand a declaration to.
const maxNodes = 1 << 20

// yamlReader fills a wire type from YAML, guided by the type: where it has a
// string, any scalar is taken as it is written, so that `mtu: 1400` and
// `- 80` need no quotes.
type yamlReader struct{ left int }

// decodeYAML reads exactly one YAML document into v, a pointer to a wire type.
func decodeYAML(b []byte, v any) error {
	n, err := oneDocument(b)
	if err != nil {
		return err
	}
	r := &yamlReader{maxNodes}
	return r.read(n, reflect.ValueOf(v).Elem(), "")
}

// oneDocument reads exactly one YAML document, or a JSON value, which is one.
func oneDocument(b []byte) (n *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil { // the parser has panicked on malformed input before
			err = fmt.Errorf("not YAML: %v", p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, malformed(b, err)
	}
	if len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null" {
		return nil, errors.New("empty: want a YAML mapping")
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, lined(&second, errors.New("a second YAML document: want one"))
	} else if !errors.Is(err, io.EOF) {
		return nil, malformed(b, err)
	}
	return doc.Content[0], nil
}

func (r *yamlReader) read(n *yaml.Node, v reflect.Value, at string) error {
	if r.left--; r.left < 0 {
		return fmt.Errorf("more than %d values", maxNodes)
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return r.read(n, v.Elem(), at)
	case reflect.Struct:
		return r.object(n, v, at)
	case reflect.Map:
		return r.strings(n, v, at)
	case reflect.Slice:
		return r.list(n, v, at)
	}
	if n.Kind != yaml.ScalarNode || !scalar(n.Value, v) {
		return lined(n, mistyped(at, v.Type()))
	}
	return nil
}

// scalar sets v to what text says, or reports that it does not fit.
func scalar(text string, v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return true
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		v.SetBool(b)
		return err == nil
	case reflect.Int:
		i, err := strconv.Atoi(text)
		v.SetInt(int64(i))
		return err == nil
	}
	return false
}

func (r *yamlReader) list(n *yaml.Node, v reflect.Value, at string) error {
	if n.Kind != yaml.SequenceNode {
		return lined(n, mistyped(at, v.Type()))
	}
	for i, item := range n.Content {
		x := reflect.New(v.Type().Elem()).Elem()
		if err := r.read(item, x, fmt.Sprintf("%s[%d]", at, i)); err != nil {
			return err
		}
		v.Set(reflect.Append(v, x))
	}
	return nil
}

func (r *yamlReader) strings(n *yaml.Node, v reflect.Value, at string) error {
	v.Set(reflect.MakeMap(v.Type()))
	return pairs(n, v.Type(), at, func(key, value *yaml.Node, at string) error {
		x := reflect.New(v.Type().Elem()).Elem()
		err := r.read(value, x, at)
		v.SetMapIndex(reflect.ValueOf(key.Value), x)
		return err
	})
}

func (r *yamlReader) object(n *yaml.Node, v reflect.Value, at string) error {
	known := fields(v.Type())
	return pairs(n, v.Type(), at, func(key, value *yaml.Node, at string) error {
		i := slices.IndexFunc(known, func(f field) bool { return f.name == key.Value })
		if i < 0 {
			return lined(key, unknownField(at, known))
		}
		return r.read(value, v.FieldByIndex(known[i].index), at)
	})
}

// pairs calls f for each pair of a mapping and refuses a key that comes twice.
func pairs(n *yaml.Node, t reflect.Type, at string, f func(key, value *yaml.Node, at string) error) error {
	if n.Kind != yaml.MappingNode {
		return lined(n, mistyped(at, t))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		here := join(at, key.Value)
		if key.Kind != yaml.ScalarNode {
			return lined(key, fmt.Errorf("%s: want a plain key", here))
		}
		if seen[key.Value] {
			return lined(key, fmt.Errorf("%s: is there twice", here))
		}
		seen[key.Value] = true
		if err := f(key, n.Content[i+1], here); err != nil {
			return err
		}
	}
	return nil
}

func lined(n *yaml.Node, err error) error { return fmt.Errorf("line %d: %w", n.Line, err) }
