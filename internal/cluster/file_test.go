package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/clustertest"
)

// TestFile has two hosts see a directory, of which one can lose sight.
func TestFile(t *testing.T) {
	clustertest.Test(t, func(t *testing.T) clustertest.Subject {
		t.Parallel()
		dir, mount := t.TempDir(), filepath.Join(t.TempDir(), "mount")
		away := func(away bool) {
			var err error
			if away {
				err = os.Remove(mount)
			} else {
				err = os.Symlink(dir, mount)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		away(false)
		path := filepath.Join(dir, "store.json")
		s, other := cluster.OpenFile(filepath.Join(mount, "store.json")), cluster.OpenFile(path)
		return clustertest.Subject{
			Store: s, Other: other, Away: away,
			Compact: func() { cluster.CompactFile(t, other) },
			Restart: func() { away(true); away(false) },
			Pass:    time.Sleep, TTL: 2 * time.Second,
		}
	})
}

// entries is what a store has under a prefix, as KEY=VALUE.
func entries(t *testing.T, s cluster.Store, prefix string) []string {
	t.Helper()
	snap, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range snap.Entries {
		if e.Rev <= 0 || e.Rev > snap.Rev {
			t.Errorf("%s is of revision %d, the store of %d", e.Key, e.Rev, snap.Rev)
		}
		out = append(out, e.Key+"="+string(e.Value))
	}
	return out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestFileByHand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.json")
	write(t, path, `{"keys": {
		"/config": {"value": {"Network": "10.5.0.0/16",  "Backend": {"Type": "vxlan"}}},
		"/text": {"value": "a <b>"},
		"/bytes": {"base64": "AP8="},
		"/past": {"value": "1", "expires": "2001-01-01T00:00:00Z"}
	}}`)
	s := cluster.OpenFile(path)
	want := []string{"/bytes=\x00\xff", `/config={"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`, "/text=a <b>"}
	if d := cmp.Diff(want, entries(t, s, "/")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	before, _ := s.List(t.Context(), "/text")
	if again, _ := s.List(t.Context(), "/text"); again.Rev != before.Rev {
		t.Errorf("revision %d, then %d", before.Rev, again.Rev)
	}

	// A store puts among what was written by hand, and keeps the rest and its mode.
	put := func(rev int64, value string) bool {
		t.Helper()
		_, done, err := s.Commit(t.Context(), cluster.Txn{If: []cluster.If{{Key: "/text", Rev: rev}}, Put: []cluster.Put{{Key: "/text", Value: []byte(value)}}})
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	if !put(before.Entries[0].Rev, "b") {
		t.Error("the condition did not hold")
	}
	want[2] = "/text=b"
	if d := cmp.Diff(want, entries(t, s, "/")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	// Somebody edits what the store wrote: what was read before does not hold.
	snap, _ := s.List(t.Context(), "/text")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Replace(string(b), `"value": "b"`, `"value": "c"`, 1))
	if put(snap.Entries[0].Rev, "d") {
		t.Error("an edit by hand was overwritten")
	}
	want[2] = "/text=c"
	if d := cmp.Diff(want, entries(t, s, "/")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestFileThatIsNone(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":      {"", "line 1: the file ends too early"},
		"torn":       {"{\n \"keys\": {\n  \"/a\": {\"value\": \"1\"},\n  \"/b\": {\"va", "line 4: the file ends too early"},
		"comma":      {"{\n \"keys\": {\n  \"/a\": {\"value\": \"1\"},\n }\n}", "line 4: invalid character '}'"},
		"kind":       {"{\n \"keys\":\n [1]}", "line 3: json: cannot unmarshal array"},
		"field":      {"{\n \"keys\": {},\n \"kees\": {}}", `line 3: json: unknown field "kees"`},
		"rest":       {"{\"keys\": {}}\n{}", "line 2: more follows the end"},
		"base64":     {"{\"keys\": {\n\"/a\": {\"base64\": \"!\"}}}", `line 2: "/a": base64: illegal`},
		"both":       {"{\"keys\": {\n\"/a\": {\"value\": 1, \"base64\": \"\"}}}", `line 2: "/a": "value" and "base64"`},
		"no value":   {"{\"keys\": {\"/0\": {\"value\": 1},\n\"/a\": {}}}", `line 2: "/a": there is no "value"`},
		"no key":     {"{\"keys\": {\"\": {\"value\": 1}}}", `line 1: "": transaction: "" is no key`},
		"not a file": {"\x00\x01", "line 1: invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.json")
			write(t, path, c.text)
			s := cluster.OpenFile(path)
			_, err := s.List(t.Context(), "/")
			if !errors.Is(err, cluster.ErrAway) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("list: %v", err)
			}
			if _, done, err := s.Commit(t.Context(), cluster.Txn{Put: []cluster.Put{{Key: "/c"}}}); done || !errors.Is(err, cluster.ErrAway) {
				t.Errorf("commit: %v, %v", done, err)
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != c.text {
				t.Errorf("the file is %q now, %v", b, err)
			}
		})
	}
}

func TestFollowFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.json")
	write(t, path, `{"keys": {"/a": {"value": "1"}, "/b": {"value": "1"}}}`)
	ctx, cancel := context.WithCancel(t.Context())
	updates := make(chan cluster.Update, 100)
	mirror := cluster.Follow(ctx, cluster.OpenFile(path), "/", slog.New(slog.DiscardHandler), func(u cluster.Update) { updates <- u })
	defer func() { cancel(); <-mirror.Done() }()
	until := func(want map[string]string) {
		t.Helper()
		got := map[string]string{}
		for range 500 {
			clear(got)
			for _, e := range mirror.Entries() {
				got[e.Key] = string(e.Value)
			}
			if cmp.Equal(got, want) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("the mirror has %v, want %v; status %+v", got, want, mirror.Status())
	}
	until(map[string]string{"/a": "1", "/b": "1"})
	write(t, path, `{"keys": {"/a": {"value": "2"}, "/b"`) // somebody is at it
	time.Sleep(50 * time.Millisecond)
	until(map[string]string{"/a": "1", "/b": "1"})
	write(t, path, `{"keys": {"/a": {"value": "2"}, "/c": {"value": "1"}}}`)
	until(map[string]string{"/a": "2", "/c": "1"})
	if _, _, err := cluster.OpenFile(path).Commit(ctx, cluster.Txn{Delete: []string{"/c"}}); err != nil {
		t.Fatal(err)
	}
	until(map[string]string{"/a": "2"})
	if err := os.Remove(path); err != nil { // by mistake, says its doc
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	until(map[string]string{"/a": "2"})
	if s := mirror.Status(); s.Held != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestFileForgetsTheOldest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.json")
	s := cluster.OpenFile(path)
	start := time.Now()
	var first int64
	for i := range 11 {
		var put, del cluster.Txn
		for j := range 100 {
			k := fmt.Sprintf("/%d/%d", i, j)
			put.Put, del.Delete = append(put.Put, cluster.Put{Key: k}), append(del.Delete, k)
		}
		for _, x := range []cluster.Txn{put, del} {
			rev, _, err := s.Commit(t.Context(), x)
			if err != nil {
				t.Fatal(err)
			}
			if first == 0 {
				first = rev
			}
		}
	}
	if b := <-s.Watch(t.Context(), "/", first); !errors.Is(b.Err, cluster.ErrCompacted) {
		t.Errorf("after %d came %d changes, %v", first, len(b.Changes), b.Err)
	}
	if b := <-s.Watch(t.Context(), "/", first+2); b.Err != nil || len(b.Changes) != 1000 {
		t.Errorf("after %d came %d changes, %v", first+2, len(b.Changes), b.Err)
	}
	t.Logf("22 commits in %s", time.Since(start))
}

func TestFileRefuses(t *testing.T) {
	path := "/proc/sys/store.json" // nobody can write there
	_, done, err := cluster.OpenFile(path).Commit(t.Context(), cluster.Txn{Put: []cluster.Put{{Key: "/a"}}})
	if done || err == nil || !strings.HasPrefix(err.Error(), "store "+path+": commit: ") {
		t.Errorf("%v, %v", done, err)
	}
}
