package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// fields is a struct as JSON, without what is zero in it. To write one whole,
// encoding/json learns its type first, which takes a program that is executed for each
// container longer than all else it does; those of the fields it knows.
func fields(s any) ([]byte, error) {
	b, err := appendFields([]byte{'{'}, reflect.ValueOf(s))
	return append(b, '}'), err
}

// appendFields appends the fields of s and of what is embedded there.
func appendFields(b []byte, s reflect.Value) (_ []byte, err error) {
	for i := range s.NumField() {
		f, v := s.Type().Field(i), s.Field(i)
		switch {
		case v.IsZero():
			continue
		case f.Anonymous:
			if b, err = appendFields(b, v); err != nil {
				return nil, err
			}
			continue
		}
		text, err := json.Marshal(v.Interface())
		if err != nil {
			return nil, fmt.Errorf("request: %s: %w", f.Name, err)
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		b = append(append(append(append(b, '"'), name...), `":`...), text...)
	}
	return b, nil
}
