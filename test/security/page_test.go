package security

import (
	"os"
	"strings"
	"testing"
)

// TestPage holds the first table of docs/security.md against the rows of the matrix, which
// TestSecurity holds against the kernel: a line of the one is what rows of the other begin with.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| from → to | nat | routed | nat-unprotected | `--internal` | `--internal`, isolated |\n|---|---|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	from, lines := "", 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.NewReplacer("`", "", "*", "").Replace(line), "| \n"), " | ")
		who, to, ok := strings.Cut(cells[0], " → ")
		if !ok || len(cells) != 1+len(modes) {
			t.Fatalf("no line of the table: %s", line)
		}
		if who != "…" {
			from = who
		}
		for i, says := range cells[1:] {
			answers := mentioned(from+" → "+to, i)
			if len(answers) == 0 {
				t.Errorf("%s: nobody tries %s on %s", cells[0], to, modes[i].name)
			}
			for _, tried := range answers {
				if tried != says {
					t.Errorf("%s, %s: the page says %q, the matrix %q", cells[0], modes[i].name, says, tried)
				}
			}
		}
		lines++
	}
	if lines < 17 {
		t.Errorf("%d lines, there were more", lines)
	}
}

// mentioned is what rows say that begin as a line of the page does, of a mode.
func mentioned(line string, mode int) []string {
	words := map[string]string{"no": "no", "yes": "yes", "client": "yes", "host": "yes, as the host", "web": "yes, as itself"}
	var out []string
	for _, r := range rows {
		if what, _, _ := strings.Cut(r.what, ": "); what == line {
			if w, asked := words[strings.Fields(r.want)[mode]]; asked {
				out = append(out, w)
			}
		}
	}
	return out
}
