package api

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestFieldsAreAllWritten has a request with a value in each field, also in those that are
// added one day, read again.
func TestFieldsAreAllWritten(t *testing.T) {
	for _, text := range []string{"br1", "a \"b\" \\c\t\n\x00\x7f<é€😀&>\u2028"} {
		var want, got Plug
		fill(t, reflect.ValueOf(&want).Elem(), text)
		written, err := fields(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &got); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\nis\n%+v\nnot\n%+v", written, got, want)
		}
	}
	if none, err := fields(Plug{}); string(none) != "{}" || err != nil {
		t.Errorf("of nothing: %s, %v", none, err)
	}
}

// fill puts a value into each field.
func fill(t *testing.T, v reflect.Value, text string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), v.Type().Field(i).Name+text)
		}
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		v.SetInt(-1 << 63)
	case reflect.Uint64:
		v.SetUint(1<<64 - 1)
	case reflect.Slice:
		v.Set(reflect.ValueOf([]string{text, ""}))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"first": text, text: ""}))
	default:
		t.Fatalf("a field of type %s: how is it written?", v.Type())
	}
}
