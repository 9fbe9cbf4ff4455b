package runtime

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

// fakeDocker answers every question about a container with a status and a text.
func fakeDocker(t *testing.T, answer func() (int, string)) *Finder {
	t.Helper()
	socket := t.TempDir() + "/docker.sock"
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.44")
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/_ping") {
			return
		}
		if !strings.Contains(r.URL.Path, "/containers/") {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		status, text := answer()
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return New(Config{Docker: "unix://" + socket})
}

// TestDockerSays has answers that a real dockerd gives seldom, and some that none
// should give.
func TestDockerSays(t *testing.T) {
	const id = "4cb2de51f7e236a2d6d99e6c1476f91fcafcbc951f871a14a5672c14a50ee4d1"
	state := func(format string, args ...any) string {
		return fmt.Sprintf(`{"Id": "`+id+`", "Name": "/web", "State": {`+format+`}}`, args...)
	}
	for _, tt := range []struct {
		status       int
		text, id     string
		want, failed string
	}{
		{200, state(`"Running": true, "Pid": %d`, os.Getpid()), "", "running", ""},
		{200, state(`"Running": true, "Paused": true, "Pid": %d`, os.Getpid()), "", "running", ""},
		{200, state(`"Running": true, "Restarting": true, "Pid": 0`), "", "stopped", ""},
		{200, state(`"Running": true, "Pid": 4194303`), "", "stopped", ""}, // it ended this moment
		{200, state(`"Running": true, "Pid": -1`), "", "stopped", ""},
		{200, state(`"Dead": true, "Pid": 0`), "", "stopped", ""},
		{200, state(`"Running": false, "Pid": %d`, os.Getpid()), "", "stopped", ""},
		{200, `{"Id": "` + id + `"}`, "", "stopped", ""},
		{200, state(`"Running": true, "Pid": %d`, os.Getpid()), "4cb2", "gone", ""},
		{404, `{"message": "No such container: web"}`, "", "gone", ""},
		{404, `{"message": "No such container: web"}`, id, "gone", ""},
		{400, `{"message": "Multiple IDs found with provided prefix: web"}`, "", "", "Multiple IDs found with provided prefix: web"},
		{500, `{"message": "one\ntwo"}`, "", "", "one two"},
		{500, ``, "", "", "Internal Server Error"},
		{200, state(`"Running": tr`), "", "", "invalid character"},
		{200, `{"Id": `, "", "", "unexpected EOF"},
		{200, `{}`, "", "", "no ID"},
		{200, `<html>`, "", "", "invalid character"},
		{200, ``, "", "", "EOF"},
	} {
		f := fakeDocker(t, func() (int, string) { return tt.status, tt.text })
		c, err := f.Find(t.Context(), model.Guest{Runtime: model.RuntimeDocker, Name: "web", ID: tt.id})
		switch {
		case tt.failed != "":
			if err == nil || !strings.HasPrefix(err.Error(), "docker:web: find: ") || !strings.Contains(err.Error(), tt.failed) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%d %s: %v, %v", tt.status, tt.text, c, err)
			}
		case err != nil || c.State.String() != tt.want || c.State != Gone && c.Guest.ID == "":
			t.Errorf("%d %s: %v, %v, want %s", tt.status, tt.text, c, err, tt.want)
		}
	}
}

// TestDockerIsNotAsked has names that would be another question.
func TestDockerIsNotAsked(t *testing.T) {
	var asked atomic.Int32
	f := fakeDocker(t, func() (int, string) { asked.Add(1); return 404, "{}" })
	for _, name := range []string{"../networks/x", "a/json?x=", "a b", "a\nb", "", "/", "a%2fb", "..", strings.Repeat("a/", 1000)} {
		if c, err := f.Find(t.Context(), model.Guest{Runtime: model.RuntimeDocker, Name: name}); err != nil || c.State != Gone {
			t.Errorf("%q: %v, %v", name, c, err)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

// TestDockerElsewhere has a dockerd of another machine, whose processes are not
// ours.
func TestDockerElsewhere(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.44")
		fmt.Fprintf(w, `{"Id": "4cb2de51", "Name": "/web", "State": {"Running": true, "Pid": %d}}`, os.Getpid())
	}))
	defer s.Close()
	f := New(Config{Docker: "tcp://" + s.Listener.Addr().String()})
	c, err := f.Find(t.Context(), model.Guest{Runtime: model.RuntimeDocker, Name: "web"})
	if err == nil || !strings.Contains(err.Error(), "runs it elsewhere") {
		t.Errorf("%v, %v", c, err)
	}
}
