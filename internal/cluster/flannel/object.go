package flannel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Field is a member of a JSON object that means something to somebody else. It is
// written back as it was read.
type Field struct {
	Name  string
	Value json.RawMessage
}

// others returns the members of an object that have none of the names, which
// compare as encoding/json compares them: without regard to case. The text is JSON
// that decode has read.
func others(text []byte, names ...string) ([]Field, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || text[0] != '{' {
		return nil, errors.New("a JSON object belongs there")
	}
	var out []Field
	for rest := text[1:]; ; {
		var key, value []byte
		if key, rest = member(rest); key == nil {
			return out, nil
		}
		value, rest = member(rest)
		name, err := unquote(key)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			out = append(out, Field{name, bytes.Clone(value)})
		}
	}
}

// unquote reads a member's name.
func unquote(key []byte) (name string, err error) {
	if len(key) >= 2 && bytes.IndexByte(key, '\\') < 0 && utf8.Valid(key) {
		return string(key[1 : len(key)-1]), nil
	}
	err = json.Unmarshal(key, &name)
	return name, err
}

// member returns the first value in what is left of an object, which may be a
// member's name, and what follows; nil at the end of the object.
func member(text []byte) (value, rest []byte) {
	text = bytes.TrimLeft(text, " \t\r\n,:")
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && strings.IndexByte(",:} \t\r\n", c) >= 0:
			if i == 0 {
				return nil, nil
			}
			return text[:i], text[i:]
		}
	}
	return nil, nil
}

// object writes a JSON object, member by member.
type object struct {
	text []byte
	err  error
}

func (o *object) add(name string, value any) {
	k, err1 := json.Marshal(name)
	v, err2 := json.Marshal(value)
	if err := errors.Join(err1, err2); err != nil {
		if o.err == nil {
			o.err = fmt.Errorf("%s: %w", name, err)
		}
		return
	}
	if len(o.text) > 0 {
		o.text = append(o.text, ',')
	}
	o.text = append(append(append(o.text, k...), ':'), v...)
}

// addUnless adds a value that is not what is meant without it.
func addUnless[T comparable](o *object, name string, value, without T) {
	if value != without {
		o.add(name, value)
	}
}

func (o *object) addAll(fields []Field) {
	for _, f := range fields {
		o.add(f.Name, f.Value)
	}
}

// bytes returns the object, in one line without spaces, as json.Marshal has it.
func (o *object) bytes() ([]byte, error) {
	return append(append([]byte{'{'}, o.text...), '}'), o.err
}

// decode reads JSON into a value. What is wrong with it is said in a line, by
// the names that people write.
func decode(text []byte, into any) error {
	err := json.Unmarshal(text, into)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON: byte %d: %s", syntax.Offset, syntax)
	}
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return err
	}
	if wrong.Field == "" {
		return fmt.Errorf("a JSON %s where an object belongs", wrong.Value)
	}
	return fmt.Errorf("%s: a JSON %s where %s belongs", wrong.Field, wrong.Value, belongs(wrong.Type.Kind().String()))
}

// belongs names what JSON has for a kind of Go's.
func belongs(kind string) string {
	switch {
	case kind == "bool":
		return "true or false"
	case kind == "string":
		return "a string"
	case strings.Contains(kind, "int"):
		return "a whole number"
	}
	return "an object"
}
