package nft

import (
	"fmt"
	"strings"
)

// token is a word of a rule.
type token struct {
	text   string
	quoted bool // stood in double quotes, which are not part of text
}

// String is the token as it stood in the rule.
func (t token) String() string {
	if t.quoted {
		return `"` + t.text + `"`
	}
	return t.text
}

// tokenize splits a rule at its spaces. It refuses what nft's scanner would
// take for something else: comments, separators, variables, line breaks.
func tokenize(rule string) ([]token, error) {
	var out []token
	for rest := strings.TrimLeft(rule, " "); rest != ""; rest = strings.TrimLeft(rest, " ") {
		t, tail, err := cutToken(rest)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
		rest = tail
	}
	return out, nil
}

func cutToken(s string) (token, string, error) {
	quoted := s[0] == '"'
	word, tail, closed := s, "", true
	if quoted {
		word, tail, closed = strings.Cut(s[1:], `"`)
	} else if i := strings.IndexByte(s, ' '); i >= 0 {
		word, tail = s[:i], s[i:]
	}
	if !closed {
		return token{}, "", fmt.Errorf("quote is not closed: %s", s)
	}
	if tail != "" && tail[0] != ' ' {
		return token{}, "", fmt.Errorf("no space after %q", word)
	}
	for i := range len(word) {
		c := word[i]
		if c < ' ' || c > '~' || !quoted && strings.IndexByte(`;{}#$"\`, c) >= 0 {
			return token{}, "", fmt.Errorf("%q: character %q has no meaning here", word, c)
		}
	}
	return token{word, quoted}, tail, nil
}

// cursor walks over tokens. The zero token stands for the end.
type cursor struct {
	tokens []token
	at     int
}

func (c *cursor) peek() token {
	if c.at >= len(c.tokens) {
		return token{}
	}
	return c.tokens[c.at]
}

func (c *cursor) next() token {
	t := c.peek()
	if c.at < len(c.tokens) {
		c.at++
	}
	return t
}

func (c *cursor) done() bool { return c.at >= len(c.tokens) }

// accept takes the words if they come next, all or none.
func (c *cursor) accept(words ...string) bool {
	for i, w := range words {
		if c.at+i >= len(c.tokens) || c.tokens[c.at+i] != (token{text: w}) {
			return false
		}
	}
	c.at += len(words)
	return true
}

// expect takes the word or says what stands in its place.
func (c *cursor) expect(word string) error {
	if c.accept(word) {
		return nil
	}
	return fmt.Errorf("%s, want %q", c.found(), word)
}

// found describes what comes next, for messages.
func (c *cursor) found() string {
	if c.done() {
		return "the rule ends"
	}
	return fmt.Sprintf("found %q", c.peek().String())
}
