package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/api"
)

// decode reads the body of a request into v, a pointer to a request type.
// Nothing is ignored: not a field that is not known, nor what follows.
func decode(r *http.Request, v any) error {
	kind, err := contentType(r)
	if err != nil {
		return err
	}
	isYAML := slices.Contains(yamlTypes, kind)
	if _, ok := v.(*api.Declaration); kind != "" && kind != "application/json" && !(ok && isYAML) {
		want := "application/json"
		if ok {
			want += " or " + yamlTypes[0]
		}
		return badBody(http.StatusUnsupportedMediaType, "content type %q: want %s", kind, want)
	}
	b, err := io.ReadAll(r.Body)
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return badBody(http.StatusRequestEntityTooLarge, "longer than %d MiB", tooBig.Limit>>20)
	}
	if err != nil {
		return badBody(http.StatusBadRequest, "read: %w", err)
	}
	if d, ok := v.(*api.Declaration); ok {
		return decodeDeclaration(r.URL.Query(), b, isYAML, d)
	}
	if err := decodeJSON(b, v); err != nil {
		return badBody(http.StatusBadRequest, "%w", err)
	}
	return nil
}

// yamlTypes are the content types of YAML, RFC 9512's first.
var yamlTypes = []string{"application/yaml", "application/x-yaml", "text/yaml"}

func contentType(r *http.Request) (string, error) {
	text := r.Header.Get("Content-Type")
	if text == "" {
		return "", nil
	}
	kind, _, err := mime.ParseMediaType(text)
	if err != nil {
		return "", badBody(http.StatusUnsupportedMediaType, "content type %q: %w", text, err)
	}
	return kind, nil
}

// decodeJSON reads exactly one JSON value.
func decodeJSON(b []byte, v any) error {
	if text := bytes.TrimSpace(b); len(text) == 0 || string(text) == "null" {
		return errors.New("empty: want a JSON object")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return explainJSON(b, reflect.TypeOf(v).Elem(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

// explainJSON says where a JSON value does not fit t, by the field's path.
func explainJSON(b []byte, t reflect.Type, err error) error {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON at byte %d: %w", e.Offset, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the JSON object is cut off")
	}
	var tree any
	if json.Unmarshal(b, &tree) == nil {
		if found := misfit(tree, t, ""); found != nil {
			return found
		}
	}
	return err
}

// misfit returns the first difference between a JSON value and a type.
func misfit(v any, t reflect.Type, at string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case nil:
		return nil
	case map[string]any:
		return misfitObject(v, t, at)
	case []any:
		if t.Kind() != reflect.Slice {
			break
		}
		for i, x := range v {
			if err := misfit(x, t.Elem(), fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	case string:
		if t.Kind() == reflect.String {
			return nil
		}
	case bool:
		if t.Kind() == reflect.Bool {
			return nil
		}
	case float64:
		if t.Kind() == reflect.Int && v == float64(int64(v)) || t.Kind() == reflect.Uint64 && v == float64(uint64(v)) {
			return nil
		}
	}
	return mistyped(at, t)
}

func misfitObject(v map[string]any, t reflect.Type, at string) error {
	if t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
		return mistyped(at, t)
	}
	known := fields(t)
	for _, k := range sortedKeys(v) {
		var inner reflect.Type
		if t.Kind() == reflect.Map {
			inner = t.Elem()
		} else if i := slices.IndexFunc(known, func(f field) bool { return strings.EqualFold(f.name, k) }); i >= 0 {
			inner = known[i].typ
		} else {
			return unknownField(join(at, k), known)
		}
		if err := misfit(v[k], inner, join(at, k)); err != nil {
			return err
		}
	}
	return nil
}

// mistyped says what a value should have been.
func mistyped(at string, t reflect.Type) error {
	want := map[reflect.Kind]string{
		reflect.String: "a string", reflect.Bool: "true or false", reflect.Int: "a number", reflect.Uint64: "a number, at least 0",
		reflect.Slice: "a list", reflect.Map: "an object of strings", reflect.Struct: "an object",
	}[t.Kind()]
	if at == "" {
		return fmt.Errorf("want %s", want)
	}
	return fmt.Errorf("%s: want %s", at, want)
}

func unknownField(at string, known []field) error {
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.name
	}
	return fmt.Errorf("%s: not a known field (known: %s)", at, strings.Join(names, ", "))
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}
