package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/spf13/cobra"
)

// format is how a reading command prints.
type format struct {
	output, template string
	columns, headed  bool // the template's, under a head; which is there
}

// flags adds -o and --format.
func (f *format) flags(c *cobra.Command) { f.register(c, "") }

// register adds them, with a letter for --format.
func (f *format) register(c *cobra.Command, letter string) {
	c.Flags().StringVarP(&f.output, "output", "o", "", "`FORMAT`: json prints the API's JSON")
	c.Flags().StringVarP(&f.template, "format", letter, "", "Go `TEMPLATE` for each item, as {{.Name}}\\t{{.ID}}; table TEMPLATE has a head; json: one a line")
}

// check refuses a format that nobody knows before anything is asked, or one
// beside -q.
func (f *format) check(c *cobra.Command, quiet bool) error {
	switch {
	case quiet && f.output+f.template != "":
		return usage("%s: -q and a format: want one of them", path(c))
	case f.output != "" && f.output != "json":
		return usage("%s: -o %s: want json", path(c), f.output)
	case f.output != "" && f.template != "":
		return usage("%s: -o and --format: want one of them", path(c))
	}
	if t, ok := strings.CutPrefix(f.template, "table"); ok { // alone it means our own table, as with docker
		f.template = strings.TrimSpace(t)
		f.columns = f.template != ""
	}
	_, err := f.parse(c)
	return err
}

// escapeRE is a tab or the end of a line as people write it in a template, or what
// is between two braces, where Go's templates know them.
var escapeRE = regexp.MustCompile(`(?s)\{\{.*?\}\}|\\t|\\n`)

// parse reads the template as docker does: json is short for {{json .}}.
func (f *format) parse(c *cobra.Command) (*template.Template, error) {
	text := escapeRE.ReplaceAllStringFunc(f.template, func(s string) string {
		switch s {
		case `\t`:
			return "\t"
		case `\n`:
			return "\n"
		}
		return s
	})
	if text == "json" {
		text = "{{json .}}"
	}
	t, err := template.New("").Funcs(template.FuncMap{
		"json": func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
		"join": join, "lower": strings.ToLower, "upper": strings.ToUpper,
	}).Parse(text)
	if err != nil {
		return nil, f.misfit(c, err, nil)
	}
	return t, nil
}

// join is strings.Join of any list: addresses are no strings.
func join(list any, between string) (string, error) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return "", errors.New("want a list")
	}
	texts := make([]string, v.Len())
	for i := range texts {
		texts[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return strings.Join(texts, between), nil
}

var (
	templateRE = regexp.MustCompile(`^template: (:\d+)*: (executing "[^"]*" at )?`)
	fieldRE    = regexp.MustCompile(`can't evaluate field (\S+) in type (\S+)$`)
)

// misfit says what is wrong with the template: of a field that an item does not have,
// which it has.
func (f *format) misfit(c *cobra.Command, err error, item any) error {
	text := templateRE.ReplaceAllString(err.Error(), "")
	if m := fieldRE.FindStringSubmatch(text); m != nil {
		if names := fieldsOf(reflect.TypeOf(item), strings.TrimPrefix(m[2], "*"), map[reflect.Type]bool{}); names != nil {
			return usage("%s: --format: no field %s (known: %s)", path(c), m[1], strings.Join(names, ", "))
		}
	}
	return usage("%s: --format: %s", path(c), text)
}

// fieldsOf lists the fields of the type of that name, which is t or one inside it that
// was not seen yet. It is empty if there is none.
func fieldsOf(t reflect.Type, name string, seen map[reflect.Type]bool) (names []string) {
	if t == nil || seen[t] {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return fieldsOf(t.Elem(), name, seen)
	case reflect.Struct:
	default:
		return nil
	}
	for _, field := range reflect.VisibleFields(t) {
		switch {
		case !field.IsExported() || field.Anonymous:
		case t.String() == name:
			names = append(names, field.Name)
		default:
			if inner := fieldsOf(field.Type, name, seen); inner != nil {
				return inner
			}
		}
	}
	return names
}

// show prints items as f says: as JSON, by a template, or as the table that
// the callback makes.
func show[T any](c *cobra.Command, f *format, items []T, table func(io.Writer)) error {
	w := c.OutOrStdout()
	columns := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	switch {
	case f.output == "json":
		return printJSON(w, items)
	case f.template == "":
		table(columns)
		return columns.Flush()
	case f.columns:
		return errors.Join(fill(c, f, columns, items), columns.Flush())
	}
	return fill(c, f, w, items)
}

// fill prints items by the template, under its head the first time: all, or none if it
// does not fit one.
func fill[T any](c *cobra.Command, f *format, w io.Writer, items []T) error {
	t, err := f.parse(c)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if f.columns && !f.headed {
		fmt.Fprintln(&text, head(t.Root))
		f.headed = true
	}
	for _, item := range items {
		if err := t.Execute(&text, item); err != nil {
			return f.misfit(c, err, item)
		}
		text.WriteByte('\n')
	}
	_, err = text.WriteTo(w)
	return err
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
