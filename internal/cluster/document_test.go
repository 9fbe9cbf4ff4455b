package cluster

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func FuzzParse(f *testing.F) {
	d := document{"id", table{rows: map[string]row{}}, map[string]int64{}, 0}
	d.table.commit(Txn{Put: []Put{{Key: "/a", Value: []byte("<\u2028\n")}, {Key: "/b", Value: []byte{0xff}, TTL: time.Second}}}, time.Unix(1, 5))
	d.happened([]Change{{Entry: Entry{Key: "/c", Rev: 1}, Gone: true}})
	text, err := d.text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"keys": {"/a": {"value": {"b": [1, null]}}, "/b": {"value": null}}}`))
	f.Add([]byte(`{"revision": -5, "gone": {"/a": 3}, "forgotten": 9, "keys": null}`))
	f.Add([]byte("{\n\"keys\": {\"\": {}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := parse(b, time.Unix(7, 0))
		if err != nil {
			return
		}
		text, err := first.text()
		if err != nil {
			t.Fatal(err)
		}
		second, err := parse(text, time.Unix(8, 0))
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		if d := cmp.Diff(first, second, cmp.AllowUnexported(document{}, table{}, row{})); d != "" {
			t.Fatalf("written and read again (-first +second):\n%s", d)
		}
		if again, _ := second.text(); !bytes.Equal(text, again) {
			t.Errorf("%s\nis then\n%s", text, again)
		}
	})
}
