package manual

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// page is one page while it is written.
type page struct {
	*manual
	name  string
	now   *snapshot // after its commands
	base  *page     // what it is compared with; nil is a host with a daemon
	shown map[string]bool
}

// write runs a page's commands and returns its text.
func (m *manual) write(name string) string {
	m.t.Helper()
	p := &page{manual: m, name: name, now: m.empty, shown: map[string]bool{}}
	m.pages[name] = p
	m.why.missing = map[string]bool{}
	file := filepath.Join("pages", name+".md")
	tmpl, err := template.New(name + ".md").Funcs(template.FuncMap{
		"run": p.run, "then": p.then, "against": p.against, "host": p.host, "firewall": p.firewall, "guard": p.guard, "inside": p.inside,
		"omit": p.omit, "chain": p.chain, "sets": p.sets, "rule": p.rule, "line": p.line,
	}).ParseFiles(file)
	if err != nil {
		m.t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- Written by go test ./test/manual -update from test/manual/%s; do not edit. -->\n", filepath.ToSlash(file))
	if err := tmpl.Execute(&b, nil); err != nil {
		m.t.Fatal(err)
	}
	p.finish()
	m.complain(m.why.missing, "pages/%s.md: why/ has no explanation for", name)
	return b.String()
}

// finish sees that the page has shown what its commands led to.
func (p *page) finish() {
	p.t.Helper()
	hidden := map[string]bool{}
	for _, line := range append(p.added(), p.gone()...) {
		p.why.why(line)
		if !p.shown[line] {
			hidden[line] = true
		}
	}
	p.complain(hidden, "pages/%s.md does not show", p.name)
}

// complain fails the test if there are lines.
func (m *manual) complain(lines map[string]bool, format string, args ...any) {
	m.t.Helper()
	if len(lines) > 0 {
		m.t.Errorf(format+":\n%s", append(args, strings.Join(slices.Sorted(maps.Keys(lines)), "\n"))...)
	}
}

// run runs commands on the host, one a line, and shows them.
func (p *page) run(commands string) (string, error) {
	commands = strings.TrimSpace(commands)
	for c := range strings.Lines(commands) {
		if r := p.manual.host.Run("bash", "-c", c); r.Code != 0 {
			return "", fmt.Errorf("%s: exit %d\n%s%s", c, r.Code, r.Stdout, r.Stderr)
		}
	}
	p.now = p.look()
	return "```sh\n" + commands + "\n```", nil
}

// then is run, and what comes after it on the page is compared with how things
// were before it.
func (p *page) then(commands string) (string, error) {
	p.finish()
	p.base, p.shown = &page{now: p.now}, map[string]bool{}
	return p.run(commands)
}

// against compares the page with another one instead of with an empty host.
func (p *page) against(name string) (string, error) {
	if p.base = p.pages[name]; p.base == nil {
		return "", fmt.Errorf("against %q: no page before this one", name)
	}
	return "", nil
}

func (p *page) baseline() *snapshot {
	if p.base != nil {
		return p.base.now
	}
	return p.empty
}

func (p *page) added() []string { return p.now.beyond(p.baseline()) }
func (p *page) gone() []string  { return p.baseline().beyond(p.now) }

// host shows the host's devices, addresses, routes, settings and held ports.
func (p *page) host() (string, error) {
	return p.rows("on the host", "device ", "address ", "route ", "setting ", "held ")
}

// firewall shows the elements of the firewall's sets.
func (p *page) firewall() (string, error) { return p.rows("in the firewall", "element inet sealane ") }

// guard shows the elements of the bridges' table.
func (p *page) guard() (string, error) {
	return p.rows("in the bridges' table", "element bridge sealane ")
}

// inside shows what a sandbox has.
func (p *page) inside(name string) (string, error) { return p.rows("in "+name, "in "+name+": ") }

// rows is a table of the lines with some beginnings that are new or gone.
func (p *page) rows(title string, beginnings ...string) (string, error) {
	gone, added := p.beginning(p.gone(), beginnings), p.beginning(p.added(), beginnings)
	if len(gone)+len(added) == 0 {
		return "", fmt.Errorf("nothing is different %s", title)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | why |\n|---|---|\n", title)
	for _, line := range gone {
		fmt.Fprintf(&b, "| *gone:* %s | %s |\n", pretty(line), p.why.why(line))
	}
	for _, line := range added {
		fmt.Fprintf(&b, "| %s | %s |\n", pretty(line), p.why.why(line))
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// beginning lists the lines with one of some beginnings, which are shown now.
func (p *page) beginning(lines, beginnings []string) []string {
	var out []string
	for _, line := range lines {
		if slices.ContainsFunc(beginnings, func(s string) bool { return strings.HasPrefix(line, s) }) {
			p.shown[line] = true
			out = append(out, line)
		}
	}
	return out
}

// omit leaves lines with a beginning out: another page shows such ones.
func (p *page) omit(beginning string) (string, error) {
	n := len(p.shown)
	for _, line := range append(p.added(), p.gone()...) {
		if strings.HasPrefix(line, beginning) {
			p.shown[line] = true
		}
	}
	if len(p.shown) == n {
		return "", fmt.Errorf("omit %q: there is none", beginning)
	}
	return "", nil
}

// pretty is a line for a table.
func pretty(line string) string {
	line = sandboxPart.ReplaceAllString(line, "")
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case "setting", "namespace":
		return code(rest)
	case "held":
		return "port " + code(rest)
	case "hosts":
		return "`/etc/hosts`: " + code(rest)
	case "resolv":
		return "`/etc/resolv.conf`: " + code(rest)
	case "element":
		f := strings.SplitN(rest, " ", 4)
		return code(f[2] + " { " + f[3] + " }")
	case "rule":
		f := strings.SplitN(rest, " ", 4)
		return f[2] + ": " + code(f[3])
	}
	return kind + " " + code(rest)
}

func code(s string) string { return "`" + strings.ReplaceAll(s, "|", `\|`) + "`" }

// chain shows a chain, "inet sealane forward", with its rules.
func (p *page) chain(name string) (string, error) {
	i := strings.LastIndex(name, " ")
	for _, t := range p.now.tables {
		for _, c := range t.chains {
			if t.name == name[:i] && c.name == name[i+1:] {
				return p.rules(t.name, c), nil
			}
		}
	}
	return "", fmt.Errorf("chain %s: there is none", name)
}

func (p *page) rules(table string, c chain) string {
	name := table + " " + c.name
	p.shown["chain "+name] = true
	var b strings.Builder
	if c.hook != "" {
		fmt.Fprintf(&b, "`%s`. ", c.hook)
	}
	fmt.Fprintf(&b, "%s\n\n| rule | why |\n|---|---|\n", p.why.why("chain "+name))
	for _, r := range c.rules {
		line := "rule " + name + " " + r
		p.shown[line] = true
		fmt.Fprintf(&b, "| %s | %s |\n", code(r), p.why.why(line))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// sets shows the sets and maps of a table; those that differ by address family
// alone are one row.
func (p *page) sets(name string) (string, error) {
	var b strings.Builder
	b.WriteString("| | key and value | holds |\n|---|---|---|\n")
	for _, t := range p.now.tables {
		if t.name != name {
			continue
		}
		p.shown["table "+name] = true
		for _, s := range t.sets {
			line := "set " + name + " " + s.name
			p.shown[line] = true
			if twin, is6 := strings.CutSuffix(s.name, "6"); is6 && p.now.has["set "+name+" "+twin+"4"] {
				p.why.why(line)
				continue
			}
			title, typ := code(s.name), s.typ
			if twin, is4 := strings.CutSuffix(s.name, "4"); is4 {
				title, typ = code(twin+"4")+" "+code(twin+"6"), strings.ReplaceAll(typ, "ipv4_addr", "address")
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", title, typ, p.why.why(line))
		}
		return strings.TrimSuffix(b.String(), "\n"), nil
	}
	return "", fmt.Errorf("table %s: there is none", name)
}

// rule shows a rule of a chain, which has to be there.
func (p *page) rule(chain, rule string) (string, error) {
	if !p.now.has["rule "+chain+" "+rule] {
		return "", fmt.Errorf("chain %s has no rule %s", chain, rule)
	}
	return code(rule), nil
}

// line shows a line of another page's host, which has to be there.
func (p *page) line(page, line string) (string, error) {
	other := p.pages[page]
	if other == nil || !other.now.has[line] {
		return "", fmt.Errorf("page %q has no line %s", page, line)
	}
	return pretty(line), nil
}
