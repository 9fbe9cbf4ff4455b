package model

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// What is kept of a line that is too long, at each end: the object is at the
// beginning, the cause at the end, and in between what somebody sent.
const lineEnd = 1000

// Lines returns what an error says to people: a line for each of the errors
// joined in it, of printable characters and of bounded length, whatever names
// and values are quoted in it.
func Lines(err error) []string {
	var out []string
	for _, e := range Joined(err) {
		out = append(out, cutMiddle(Printable(strings.ReplaceAll(e.Error(), "\n", "; "))))
	}
	return out
}

// Joined takes apart what errors.Join made.
func Joined(err error) []error {
	list, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	var texts []string
	for _, e := range list.Unwrap() {
		out = append(out, Joined(e)...)
		texts = append(texts, e.Error())
	}
	if err.Error() != strings.Join(texts, "\n") {
		return []error{err} // fmt.Errorf with several %w
	}
	return out
}

// cutMiddle cuts the middle out of a long line.
func cutMiddle(s string) string {
	if len(s) <= 2*lineEnd {
		return s
	}
	head, tail := lineEnd, len(s)-lineEnd
	for !utf8.RuneStart(s[head]) {
		head--
	}
	for !utf8.RuneStart(s[tail]) {
		tail++
	}
	return s[:head] + "…" + s[tail:]
}

// Printable returns s with what is no printable character written as in a Go
// string, so that it can neither end a line nor command a terminal.
func Printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if strconv.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			b.WriteString(s[i : i+n])
		} else {
			quoted := strconv.Quote(s[i : i+n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}
