package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// column is what came out for one plugin.
type column struct {
	Label    string
	Findings []finding
}

// count says how many findings came out as outcome.
func (c *column) count(outcome string) int {
	n := 0
	for _, f := range c.Findings {
		if f.Outcome == outcome {
			n++
		}
	}
	return n
}

// of returns the finding of a check.
func (c *column) of(id string) (finding, bool) {
	i := slices.IndexFunc(c.Findings, func(f finding) bool { return f.ID == id })
	if i < 0 {
		return finding{}, false
	}
	return c.Findings[i], true
}

// headings are the groups of checks, by the first part of their ids.
func headings() map[string]string {
	return map[string]string{
		"version": "VERSION, and versions", "config": "What is on stdin", "env": "The environment", "add": "ADD", "result": "The result of ADD",
		"del": "DEL", "check": "CHECK", "status": "STATUS", "gc": "GC", "chain": "After another plugin", "capability": "Capabilities",
		"args": "CNI_ARGS and `args`", "output": "What it prints", "tidy": "What it leaves", "service": "Without its daemon",
	}
}

// table is the report: the plugins side by side, and below what was seen.
func table(cols []column) string {
	var b strings.Builder
	group := ""
	for _, c := range checks() {
		cells, asked := row(c, cols)
		if !asked {
			continue
		}
		if g, _, _ := strings.Cut(c.id, "."); g != group {
			group = g
			b.WriteString(heading(g, cols))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |%s\n", c.id, escape(c.says), c.word, c.section, cells)
	}
	b.WriteString("\n## What was seen\n")
	for _, c := range cols {
		b.WriteString(c.notes())
	}
	return b.String()
}

// heading begins a group's table.
func heading(group string, cols []column) string {
	out := "\n## " + headings()[group] + "\n\n| check | what is looked for | | section |"
	for _, c := range cols {
		out += " " + c.Label + " |"
	}
	return out + "\n|---|---|---|---|" + strings.Repeat("---|", len(cols)) + "\n"
}

// notes are what was seen of one plugin. Checks that were not asked for the
// same reason are in one line.
func (c *column) notes() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n%d pass, %d fail, %d n/a.\n\n", c.Label, c.count(passed), c.count(failed), c.count(unasked))
	reasons := map[string][]string{}
	for _, f := range c.Findings {
		switch {
		case f.Outcome == unasked:
			reasons[f.Seen] = append(reasons[f.Seen], "`"+f.ID+"`")
		case f.Seen != "":
			fmt.Fprintf(&b, "- `%s` %s: %s\n", f.ID, f.Outcome, escape(f.Seen))
		}
	}
	for _, why := range sorted(reasons) {
		fmt.Fprintf(&b, "- n/a, %s: %s\n", escape(why), strings.Join(reasons[why], ", "))
	}
	return b.String()
}

// row is the outcomes of a check as cells, and whether it was tried at all.
func row(c check, cols []column) (cells string, asked bool) {
	for _, col := range cols {
		f, ok := col.of(c.id)
		asked = asked || ok
		text := f.Outcome
		if text == failed {
			text = "**" + text + "**"
		}
		cells += " " + text + " |"
	}
	return cells, asked
}

// escape keeps text from being read as Markdown or HTML.
func escape(text string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`, "\n", " ", "*", `\*`).Replace(text)
}

// sorted are the keys of a map in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
