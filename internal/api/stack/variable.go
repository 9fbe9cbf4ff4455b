package stack

import (
	"fmt"
	"strings"
)

// expand puts in what $NAME and ${NAME} stand for, as Compose does: ${NAME:-TEXT} is TEXT
// where the variable is not set or empty, ${NAME-TEXT} where it is not set; with + it is
// the other way round, and with ? TEXT is the error. $$ is a dollar. A variable that is
// not set and has no such text is an error.
func expand(text string, vars map[string]string) (string, error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		if rest, dollar := strings.CutPrefix(after, "$"); dollar {
			out.WriteByte('$')
			text = rest
			continue
		}
		inside, rest, braced := after, "", strings.HasPrefix(after, "{")
		if braced {
			if inside, rest, found = strings.Cut(after[1:], "}"); !found {
				return "", fmt.Errorf("${ without }: want $NAME, ${NAME}, or $$ for a dollar")
			}
		}
		n := nameLength(inside)
		if !braced {
			inside, rest = inside[:n], inside[n:]
		}
		if n == 0 {
			return "", fmt.Errorf("$: want $NAME, ${NAME}, or $$ for a dollar")
		}
		s, err := meaning(inside[:n], inside[n:], vars)
		if err != nil {
			return "", err
		}
		out.WriteString(s)
		text = rest
	}
}

// meaning is what one variable with its operator stands for.
func meaning(name, op string, vars map[string]string) (string, error) {
	v, set := vars[name]
	if rest, colon := strings.CutPrefix(op, ":"); colon {
		if set = set && v != ""; rest == "" {
			rest = ":"
		}
		op = rest
	}
	if strings.Contains(op, "$") {
		return "", fmt.Errorf("${%s}: a variable inside a variable: not done here", name)
	}
	switch {
	case op == "" && set:
		return v, nil
	case op == "":
		return "", fmt.Errorf("variable %s is not set", name)
	case op[0] == '-' && !set, op[0] == '+' && set:
		return op[1:], nil
	case op[0] == '-' || op[0] == '?' && set:
		return v, nil
	case op[0] == '+':
		return "", nil
	case op[0] == '?':
		return "", fmt.Errorf("variable %s: %s", name, op[1:])
	}
	return "", fmt.Errorf("${%s%s}: want ${NAME}, or one of :- - :+ + :? ? and a text after NAME", name, op)
}

// nameLength is how much of the beginning of a text is a variable's name.
func nameLength(text string) int {
	for i, c := range []byte(text) {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(text)
}
