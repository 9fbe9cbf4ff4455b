package server

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// field is one field of a wire type as JSON has it.
type field struct {
	name     string
	typ      reflect.Type
	index    []int // for reflect.Value.FieldByIndex
	optional bool  // left out when empty
}

// fields lists the JSON fields of a struct, those of embedded structs in
// their place. Other types have none.
func fields(t reflect.Type) []field {
	if t.Kind() != reflect.Struct {
		return nil
	}
	var out []field
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "" || name == "-" {
			continue
		}
		out = append(out, field{name, f.Type, f.Index, strings.Contains(options, "omit")})
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
