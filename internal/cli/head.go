package cli

import (
	"regexp"
	"strings"
	"text/template/parse"
)

// head is what stands above the columns of a template: its text as it is, and in the
// place of what it prints the names of the fields.
func head(nodes *parse.ListNode) string {
	var b strings.Builder
	for _, node := range nodes.Nodes {
		switch n := node.(type) {
		case *parse.TextNode:
			b.Write(n.Text)
		case *parse.ActionNode:
			if len(n.Pipe.Decl) == 0 {
				b.WriteString(strings.Join(names(n.Pipe), " "))
			}
		case *parse.RangeNode:
			b.WriteString(head(n.List))
		case *parse.WithNode:
			b.WriteString(head(n.List))
		case *parse.IfNode:
			b.WriteString(head(n.List))
		}
	}
	return b.String()
}

// wordRE is where a word of a field's name ends and the next one begins.
var wordRE = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// names are the fields that a pipeline prints, as a table's head has them.
func names(pipe *parse.PipeNode) []string {
	var out []string
	for _, command := range pipe.Cmds {
		for _, arg := range command.Args {
			var path []string
			switch n := arg.(type) {
			case *parse.FieldNode:
				path = n.Ident
			case *parse.ChainNode:
				path = n.Field
			case *parse.VariableNode:
				path = n.Ident[1:]
			case *parse.PipeNode:
				out = append(out, names(n)...)
			}
			if len(path) > 0 {
				out = append(out, strings.ToUpper(wordRE.ReplaceAllString(path[len(path)-1], "$1 $2")))
			}
		}
	}
	return out
}
