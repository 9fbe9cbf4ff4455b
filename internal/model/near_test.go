package model

import "testing"

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"ps", "ps", 0}, {"prots", "ports", 1}, {"ab", "ba", 1}, {"abcd", "badc", 2}, {"ca", "abc", 3}, {"sevrice", "services", 2}} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("%s, %s: %d", c.a, c.b, got)
		}
	}
}
