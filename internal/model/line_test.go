package model

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLines(t *testing.T) {
	a, b, c := errors.New("a\nb"), errors.New("\x1b[31mred\u202e\x7f\xff"), errors.New("c")
	long := "network " + strings.Repeat("ä", 3000) + ": cause"
	for _, test := range []struct {
		name string
		err  error
		want []string
	}{
		{"one", c, []string{"c"}},
		{"a line break", a, []string{"a; b"}},
		{"orders to a terminal", b, []string{`\x1b[31mred\u202e\x7f\xff`}},
		{"joined", errors.Join(a, errors.Join(b, c)), []string{"a; b", `\x1b[31mred\u202e\x7f\xff`, "c"}},
		{"wrapped", fmt.Errorf("x: %w", errors.Join(a, c)), []string{"x: a; b; c"}},
		{"two in one", fmt.Errorf("%w and %w", c, c), []string{"c and c"}},
		{"long", errors.New(long), []string{long[:lineEnd] + "…" + long[len(long)-lineEnd+1:]}},
	} {
		if got := Lines(test.err); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add("network app", "the name is taken")
	f.Add("\x00\r\n\xff\u2028", strings.Repeat("界", 2000))
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, err := range []error{errors.New(a), errors.Join(errors.New(a), errors.New(b)), fmt.Errorf("%s: %w", a, errors.New(b))} {
			lines := Lines(err)
			if len(lines) > 2 {
				t.Fatalf("%d lines", len(lines))
			}
			for _, line := range lines {
				if len(line) > 2*lineEnd+len("…") || !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !strconv.IsPrint(r) }) {
					t.Errorf("%q and %q become %q", a, b, line)
				}
			}
		}
	})
}
