package manual

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"
)

// page is one page while it is written.
type page struct {
	*manual
	name  string
	now   *snapshot // after its commands
	base  *page     // what it is compared with; nil is a host with a daemon
	shown map[string]bool
	known map[string]bool // lines that are not shown again, see like
}

// write runs a page's commands and returns its text.
func (m *manual) write(name string) string {
	m.t.Helper()
	p := &page{manual: m, name: name, now: m.empty, shown: map[string]bool{}}
	m.pages[name] = p
	m.why.missing = map[string]bool{}
	file := filepath.Join("pages", name+".md")
	tmpl, err := template.New(name + ".md").Funcs(template.FuncMap{
		"run": p.run, "then": p.then, "says": p.says, "there": p.there, "await": p.await, "across": p.crossed, "against": p.against, "host": p.host, "firewall": p.firewall, "guard": p.guard, "inside": p.inside, "structure": p.structure,
		"omit": p.omit, "like": p.like, "chains": p.chains, "sets": p.sets, "rule": p.rule, "ofchain": p.ofChain, "line": p.line, "hook": p.hook,
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

// says runs a command on the host, and shows it with what it prints.
func (p *page) says(command string) (string, error) {
	r := p.manual.host.Run("bash", "-c", command)
	if r.Code != 0 {
		return "", fmt.Errorf("%s: exit %d\n%s%s", command, r.Code, r.Stdout, r.Stderr)
	}
	names, _ := p.names()
	out := names.Replace(strings.ReplaceAll(r.Stdout, " \n", "\n"))
	return "```\n$ " + command + "\n" + out + "```", nil
}

// there runs commands on the other host, and shows them. What that host has not heard of
// yet, it will.
func (p *page) there(commands string) (string, error) {
	commands = strings.TrimSpace(commands)
	for c := range strings.Lines(commands) {
		for end := time.Now().Add(clearTimeout); ; time.Sleep(50 * time.Millisecond) {
			r := p.peer.Run("bash", "-c", c)
			if r.Code == 0 {
				break
			}
			if time.Now().After(end) {
				return "", fmt.Errorf("%s: on %s: exit %d\n%s%s", c, p.peer.Name, r.Code, r.Stdout, r.Stderr)
			}
		}
	}
	return "```sh\n" + commands + "\n```", nil
}

// await waits until the host has a line, and all that came with it.
func (p *page) await(line string) (string, error) {
	for end := time.Now().Add(clearTimeout); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		p.now = p.look()
		if r := p.manual.host.Run("sealane", "diff"); p.now.has[line] && r.Code == 0 && r.Stdout == "" {
			p.now = p.look()
			return "", nil
		}
	}
	return "", fmt.Errorf("await %s: it has not come; there is\n%s", line, strings.Join(p.added(), "\n"))
}

// crossed goes on at the other host: what comes after it on the page is what that one has
// beyond what it had before.
func (p *page) crossed() (string, error) {
	p.finish()
	p.pages[p.name+" on "+p.manual.host.Name] = &page{manual: p.manual, now: p.now}
	p.manual = p.manual.across
	p.now, p.shown, p.known = p.look(), map[string]bool{}, nil
	return "", nil
}

// then is run, and what comes after it on the page is compared with how things
// were before it.
func (p *page) then(commands string) (string, error) {
	p.finish()
	p.base, p.shown, p.known = &page{now: p.now}, map[string]bool{}, nil
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

// host shows the host's devices, addresses, routes, neighbours, forwarding entries,
// settings and held ports.
func (p *page) host() (string, error) {
	return p.rows("on the host", "device ", "address ", "route ", "policy ", "neighbour ", "forwarding ", "setting ", "held ")
}

// structure shows chains, rules and sets.
func (p *page) structure() (string, error) {
	return p.rows("in the tables", "chain ", "rule ", "set ")
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
		if !slices.ContainsFunc(beginnings, func(s string) bool { return strings.HasPrefix(line, s) }) {
			continue
		}
		if !p.shown[line] && !p.known[kind(line)] {
			out = append(out, line)
		}
		p.shown[line] = true
	}
	return out
}

// names are what stands for IDs.
var names = regexp.MustCompile(`<[^>]*>`)

// kind is a line without the names in it.
func kind(line string) string {
	return names.ReplaceAllString(sandboxPart.ReplaceAllString(line, "inside "), "<>")
}

// like leaves out of what comes after it what other pages have already but for
// the names of networks and sandboxes.
func (p *page) like(names ...string) (string, error) {
	p.known = map[string]bool{}
	for _, name := range names {
		other := p.pages[name]
		if other == nil {
			return "", fmt.Errorf("like %q: no page before this one", name)
		}
		for _, line := range other.now.lines {
			p.known[kind(line)] = true
		}
	}
	for _, line := range p.added() {
		if p.known[kind(line)] {
			p.shown[line] = true
		}
	}
	return "", nil
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
	case "setting":
		return code(rest)
	case "namespace":
		return "the network namespace " + rest
	case "policy":
		return "policy rule " + code(rest)
	case "held":
		return "port " + code(rest)
	case "hosts", "resolv":
		file := map[string]string{"hosts": "`/etc/hosts`", "resolv": "`/etc/resolv.conf`"}[kind]
		if strings.HasPrefix(rest, "of ") {
			return file + " " + rest
		}
		return file + ": " + code(rest)
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

// chains shows all chains of a table with their rules: those of a list, in its
// order, then the others, each after the first one that leads to it.
func (p *page) chains(name, order string) (string, error) {
	i := slices.IndexFunc(p.now.tables, func(t table) bool { return t.name == name })
	if i < 0 {
		return "", fmt.Errorf("table %s: there is none", name)
	}
	all := slices.Clone(p.now.tables[i].chains)
	var b strings.Builder
	for _, wanted := range strings.Fields(order) {
		i := slices.IndexFunc(all, func(c chain) bool { return c.name == wanted })
		if i < 0 {
			p.t.Errorf("pages/%s.md: table %s: chain %s: there is none", p.name, name, wanted)
			continue
		}
		b.WriteString(p.rules(name, all[i]))
		all = slices.Delete(all, i, i+1)
	}
	for _, c := range walk(all) {
		b.WriteString(p.rules(name, c))
	}
	return strings.TrimRight(b.String(), "\n"), nil
}

// hooks are in the order in which packets meet them.
var hooks = []string{"prerouting", "input", "forward", "output", "postrouting"}

// walk puts chains in the order in which packets come to them.
func walk(chains []chain) []chain {
	var out []chain
	at := func(name string) int { return slices.IndexFunc(chains, func(c chain) bool { return c.name == name }) }
	var visit func(i int)
	visit = func(i int) {
		if i < 0 || slices.ContainsFunc(out, func(c chain) bool { return c.name == chains[i].name }) {
			return
		}
		out = append(out, chains[i])
		for _, r := range chains[i].rules {
			if f := strings.Fields(r); len(f) > 1 && (f[len(f)-2] == "goto" || f[len(f)-2] == "jump") && f[len(f)-1] != "refused" {
				visit(at(f[len(f)-1]))
			}
		}
	}
	for _, hook := range hooks {
		for i, c := range chains {
			if strings.Contains(c.hook+" ", " hook "+hook+" ") {
				visit(i)
			}
		}
	}
	for i := range chains {
		visit(i)
	}
	return out
}

func (p *page) rules(table string, c chain) string {
	name := table + " " + c.name
	p.shown["chain "+name] = true
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", c.name)
	if c.hook != "" {
		fmt.Fprintf(&b, "`%s`. ", c.hook)
	}
	fmt.Fprintf(&b, "%s\n\n| rule | why |\n|---|---|\n", p.why.why("chain "+name))
	for _, r := range c.rules {
		line := "rule " + name + " " + r
		p.shown[line] = true
		fmt.Fprintf(&b, "| %s | %s |\n", code(r), p.why.why(line))
	}
	b.WriteString("\n")
	return b.String()
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
			if twin, is4 := strings.CutSuffix(s.name, "4"); is4 && p.now.has["set "+name+" "+twin+"6"] {
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

// hook shows where a chain begins.
func (p *page) hook(table, name string) (string, error) {
	for _, t := range p.now.tables {
		for _, c := range t.chains {
			if t.name == table && c.name == name && c.hook != "" {
				return code(strings.TrimPrefix(c.hook, "type ")), nil
			}
		}
	}
	return "", fmt.Errorf("table %s has no chain %s with a hook", table, name)
}

// ofChain is rule with the chain's name.
func (p *page) ofChain(chain, rule string) (string, error) {
	text, err := p.rule(chain, rule)
	return chain[strings.LastIndex(chain, " ")+1:] + ": " + text, err
}

// line shows a line of another page's host, which has to be there.
func (p *page) line(page, line string) (string, error) {
	other := p.pages[page]
	if other == nil || !other.now.has[line] {
		return "", fmt.Errorf("page %q has no line %s", page, line)
	}
	return pretty(line), nil
}
