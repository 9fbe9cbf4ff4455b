package cluster

import "testing"

// CompactFile has a file forget what went.
func CompactFile(t *testing.T, f *File) {
	unlock, err := f.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	doc, info, err := f.read()
	if err != nil {
		t.Fatal(err)
	}
	doc.forget(doc.table.rev)
	if wrote, err := f.write(doc, info); !wrote || err != nil {
		t.Fatal(wrote, err)
	}
}
