package cluster

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"time"
	"unicode/utf8"
)

// document is the content of a store's file. It reads:
//
//	{
//	  "id": "5f0c2f6e3f9a4b1d",
//	  "revision": 12,
//	  "sum": "0d5a8a71c1c2f8f5",
//	  "keys": {
//	    "/coreos.com/network/config": {"revision": 3, "value": "{\"Network\":\"10.5.0.0/16\"}"},
//	    "/coreos.com/network/subnets/10.5.7.0-24": {"revision": 12, "expires": "2026-11-22T20:00:00Z", "value": "…"},
//	    "/some/bytes": {"revision": 4, "base64": "AP8="}
//	  },
//	  "forgotten": 2,
//	  "gone": {"/a/key/that/went": 9}
//	}
//
// A file written by hand needs "keys" only, and of a key only its "value", which may
// be JSON of any kind as well as a string: the file's revision, and that of each key
// in it, is then the time at which the file was written, in microseconds. "sum" tells
// whether the file is as a Store left it.
type document struct {
	id        string
	table     table
	gone      map[string]int64 // at which revision keys went, of those after forgotten
	forgotten int64            // up to where what went is not known
}

// The document as JSON. The order of the fields is the order in the file.
type (
	page struct {
		ID        string           `json:"id,omitempty"`
		Revision  int64            `json:"revision,omitempty"`
		Sum       string           `json:"sum,omitempty"`
		Keys      map[string]line  `json:"keys"`
		Forgotten int64            `json:"forgotten,omitempty"`
		Gone      map[string]int64 `json:"gone,omitempty"`
	}
	line struct {
		Revision int64           `json:"revision,omitempty"`
		Expires  *time.Time      `json:"expires,omitempty"`
		Value    json.RawMessage `json:"value,omitempty"`
		Base64   *string         `json:"base64,omitempty"`
	}
)

// maxGone is how many keys that went are remembered: who has not looked for longer
// has to list.
const maxGone = 1000

// parse reads a document that was written at some time. What is wrong with it is an
// error that begins with the line.
func parse(b []byte, written time.Time) (*document, error) {
	var p page
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	switch err := d.Decode(&p); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("line %d: the file ends too early", lineAt(b, int64(len(b))))
	case err != nil:
		return nil, fmt.Errorf("line %d: %w", lineAt(b, offset(d, err)), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("line %d: more follows the end", lineAt(b, d.InputOffset()))
	}
	doc := &document{p.ID, table{p.Revision, map[string]row{}}, p.Gone, p.Forgotten}
	byHand := p.Sum == "" || p.Sum != p.sum()
	if byHand {
		doc.table.rev = max(p.Revision+1, written.UnixMicro(), 1)
		doc.forgotten, doc.gone = doc.table.rev, nil
	}
	for _, k := range slices.Sorted(maps.Keys(p.Keys)) {
		r, err := p.Keys[k].row(doc.table.rev, byHand)
		if err == nil {
			err = (Txn{Put: []Put{{Key: k}}}).Check()
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", lineAt(b, int64(max(0, bytes.Index(b, quote(k))))), k, err)
		}
		doc.table.rows[k] = r
	}
	if doc.gone == nil {
		doc.gone = map[string]int64{}
	}
	return doc, nil
}

// offset is where an error is in the text.
func offset(d *json.Decoder, err error) int64 {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return syntax.Offset
	case errors.As(err, &kind):
		return kind.Offset
	}
	return d.InputOffset()
}

// lineAt counts lines up to an offset.
func lineAt(b []byte, offset int64) int {
	return 1 + bytes.Count(b[:min(max(0, offset), int64(len(b)))], []byte("\n"))
}

// row reads a line of a file at a revision. In a file that was written by hand, all
// keys are of that revision: which were changed is not known.
func (l line) row(rev int64, byHand bool) (row, error) {
	r := row{rev: l.Revision}
	if byHand || r.rev <= 0 || r.rev > rev {
		r.rev = rev
	}
	if l.Expires != nil {
		r.expires = *l.Expires
	}
	switch text := ""; {
	case l.Base64 != nil && l.Value != nil:
		return r, errors.New(`"value" and "base64": one is enough`)
	case l.Base64 != nil:
		b, err := base64.StdEncoding.DecodeString(*l.Base64)
		if err != nil {
			return r, fmt.Errorf("base64: %w", err)
		}
		r.value = b
	case l.Value == nil:
		return r, errors.New(`there is no "value"`)
	case json.Unmarshal(l.Value, &text) == nil && l.Value[0] == '"':
		r.value = []byte(text)
	default:
		r.value = compact(l.Value)
	}
	return r, nil
}

// compact is JSON without spaces.
func compact(raw json.RawMessage) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return raw
	}
	return b.Bytes()
}

// quote is a text as JSON, with no more escapes than JSON needs.
func quote(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // of a string there is always JSON
	return bytes.TrimSpace(b.Bytes())
}

// text writes a document, the same for the same content.
func (d *document) text() ([]byte, error) {
	p := page{ID: d.id, Revision: d.table.rev, Keys: map[string]line{}, Forgotten: d.forgotten, Gone: d.gone}
	for k, r := range d.table.rows {
		l := line{Revision: r.rev}
		if !r.expires.IsZero() {
			t := r.expires.UTC().Round(0)
			l.Expires = &t
		}
		if utf8.Valid(r.value) {
			l.Value = quote(string(r.value))
		} else {
			s := base64.StdEncoding.EncodeToString(r.value)
			l.Base64 = &s
		}
		p.Keys[k] = l
	}
	p.Sum = p.sum()
	return p.encode()
}

func (p page) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(p)
	return b.Bytes(), err
}

// sum tells this content from any other that a person would make of it.
func (p page) sum() string {
	p.Sum = ""
	b, err := p.encode()
	if err != nil {
		return ""
	}
	h := fnv.New64a()
	_, _ = h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// happened remembers what went.
func (d *document) happened(changes []Change) {
	for _, c := range changes {
		if delete(d.gone, c.Key); c.Gone {
			d.gone[c.Key] = c.Rev
		}
	}
	for len(d.gone) > maxGone {
		first := d.table.rev
		for _, rev := range d.gone {
			first = min(first, rev)
		}
		d.forget(first)
	}
}

// forget forgets what went up to a revision.
func (d *document) forget(rev int64) {
	d.forgotten = max(d.forgotten, rev)
	maps.DeleteFunc(d.gone, func(_ string, at int64) bool { return at <= d.forgotten })
}

// since returns what changed under a prefix after a revision, as far as it can be
// seen: the last change of each key.
func (d *document) since(rev int64, prefix string) (Batch, error) {
	if rev < d.forgotten || rev > d.table.rev {
		return Batch{}, ErrCompacted
	}
	var all []Change
	for k, r := range d.table.rows {
		if r.rev > rev {
			all = append(all, Change{Entry: r.entry(k)})
		}
	}
	for k, at := range d.gone {
		if at > rev {
			all = append(all, Change{Entry: Entry{Key: k, Rev: at}, Gone: true})
		}
	}
	all = under(prefix, all)
	slices.SortFunc(all, func(a, b Change) int {
		if a.Rev != b.Rev {
			return int(min(1, max(-1, a.Rev-b.Rev)))
		}
		return byKey(a.Entry, b.Entry)
	})
	return Batch{Rev: d.table.rev, Changes: all}, nil
}
