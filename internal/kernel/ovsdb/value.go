package ovsdb

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Values as RFC 7047, section 5.1, writes them:
//
//	atom   "text" · 7 · true · ["uuid","…"] · ["named-uuid","…"]
//	set    ["set",[atom,…]], or one atom alone
//	map    ["map",[[atom,atom],…]]

// uuid and named refer to a row: one that is there, one of this transaction.
func uuid(id string) []string  { return []string{"uuid", id} }
func named(id string) []string { return []string{"named-uuid", id} }

// setOf is a set of anything.
func setOf[T any](list ...T) []any {
	if list == nil {
		list = []T{}
	}
	return []any{"set", list}
}

// mapOf is a map of texts, in order.
func mapOf(m map[string]string) []any {
	pairs := [][2]string{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, [2]string{k, m[k]})
	}
	return []any{"map", pairs}
}

// row is a row's columns as they came.
type row map[string]json.RawMessage

// texts reads a column that is a set of texts or references.
func (r row) texts(column string) ([]string, error) {
	atoms, err := r.atoms(column)
	var out []string
	for _, a := range atoms {
		text, bad := parseText(a)
		if err == nil && bad != nil {
			err = fmt.Errorf("column %s: %w", column, bad)
		}
		out = append(out, text)
	}
	return out, err
}

// text reads a column with at most one text or reference; "" is none.
func (r row) text(column string) (string, error) {
	list, err := r.texts(column)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0], nil
}

// numbers reads a column that is a set of integers.
func (r row) numbers(column string) ([]int, error) {
	atoms, err := r.atoms(column)
	var out []int
	for _, a := range atoms {
		n, bad := strconv.Atoi(string(a))
		if err == nil && bad != nil {
			err = fmt.Errorf("column %s: %w", column, bad)
		}
		out = append(out, n)
	}
	return out, err
}

// pairs reads a column that is a map of texts.
func (r row) pairs(column string) (map[string]string, error) {
	var pairs [][2]string
	if err := tagged(r[column], "map", &pairs); err != nil {
		return nil, fmt.Errorf("column %s: %w", column, err)
	}
	out := map[string]string{}
	for _, p := range pairs {
		out[p[0]] = p[1]
	}
	return out, nil
}

// atoms takes a set apart. A column that is not there is an error.
func (r row) atoms(column string) ([]json.RawMessage, error) {
	raw, ok := r[column]
	if !ok {
		return nil, fmt.Errorf("column %s: missing", column)
	}
	var list []json.RawMessage
	if tagged(raw, "set", &list) == nil {
		return list, nil
	}
	return []json.RawMessage{raw}, nil
}

// tagged reads [TAG, VALUE].
func tagged(raw json.RawMessage, tag string, value any) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	var got string
	if len(parts) != 2 || json.Unmarshal(parts[0], &got) != nil || got != tag {
		return fmt.Errorf("no %s: %.40s", tag, raw)
	}
	return json.Unmarshal(parts[1], value)
}

// parseText reads a text, or the identity of a row.
func parseText(a json.RawMessage) (text string, err error) {
	if err = tagged(a, "uuid", &text); err == nil {
		return text, nil
	}
	text = ""
	return text, json.Unmarshal(a, &text)
}
