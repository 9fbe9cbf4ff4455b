package ovsdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// message is what goes either way: JSON-RPC 1.0 without frames, one object after
// another (RFC 7047, section 4).
type message struct {
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"`
	ID     json.RawMessage `json:"id"`
}

// maxMessage bounds a message: a host with all the ports that there can be has
// some megabytes of them.
const maxMessage = 64 << 20

// errTimeout is a server that does not answer in time.
var errTimeout = errors.New("no answer")

// session is one connection.
type session struct {
	conn    net.Conn
	updated func()        // rows that are monitored changed; called by read
	ended   chan struct{} // closed when read has ended

	mourning atomic.Bool // somebody waits for the end of ovs-vswitchd

	mu    sync.Mutex // protects the following, and the order of writes
	last  int
	calls map[int]chan<- message
}

func newSession(conn net.Conn) *session {
	return &session{conn: conn, updated: func() {}, ended: make(chan struct{}), calls: map[int]chan<- message{}}
}

func (s *session) close() error { return s.conn.Close() }

func (s *session) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// read takes messages until the connection ends.
func (s *session) read() {
	defer close(s.ended)
	defer s.conn.Close()
	limited := &io.LimitedReader{R: s.conn}
	dec := json.NewDecoder(limited)
	for {
		limited.N = maxMessage
		var m message
		if err := dec.Decode(&m); err != nil {
			return
		}
		if s.take(m) != nil {
			return
		}
	}
}

// take does what a message asks for.
func (s *session) take(m message) error {
	switch m.Method {
	case "":
		s.answered(m)
	case "echo": // the server asks whether we live (section 4.1.11)
		return s.send(message{Result: m.Params, Error: json.RawMessage("null"), ID: m.ID})
	case "update", "update2", "update3":
		s.updated()
	}
	return nil
}

// answered gives an answer to who waits for it.
func (s *session) answered(m message) {
	var id int
	if json.Unmarshal(m.ID, &id) != nil {
		return
	}
	s.mu.Lock()
	to := s.calls[id]
	delete(s.calls, id)
	s.mu.Unlock()
	if to != nil {
		to <- m
	}
}

// send writes messages at once.
func (s *session) send(list ...message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendLocked(list)
}

func (s *session) sendLocked(list []message) error {
	var b []byte
	for _, m := range list {
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		b = append(b, text...)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(answerTime))
	_, err := s.conn.Write(b)
	return err
}

// call is a question.
type call struct {
	method string
	params []any
	answer chan message
}

// ask sends questions at once; the server takes them in order.
func (s *session) ask(calls ...*call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []message
	for _, c := range calls {
		params, err := json.Marshal(c.params)
		if err != nil {
			return err
		}
		s.last++
		c.answer = make(chan message, 1)
		s.calls[s.last] = c.answer
		list = append(list, message{Method: c.method, Params: params, ID: fmt.Append(nil, s.last)})
	}
	return s.sendLocked(list)
}

// await returns the answer to a question.
func (s *session) await(c *call, patience time.Duration) (json.RawMessage, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case m := <-c.answer:
		if len(m.Error) > 0 && string(m.Error) != "null" {
			return nil, fmt.Errorf("%s: %s", c.method, m.Error)
		}
		return m.Result, nil
	case <-s.ended:
		return nil, io.ErrUnexpectedEOF
	case <-timer.C:
		return nil, fmt.Errorf("%s: %w within %v", c.method, errTimeout, patience)
	}
}

// call asks one question.
func (s *session) call(patience time.Duration, method string, params ...any) (json.RawMessage, error) {
	c := &call{method: method, params: params}
	if err := s.ask(c); err != nil {
		return nil, err
	}
	return s.await(c, patience)
}

// running reports whether ovs-vswitchd lives. The lock that it holds is asked for
// and given back in one write, so that it is never ours for longer than the
// server takes to read on.
func (s *session) running() (bool, error) {
	lock := &call{method: "lock", params: []any{"ovs_vswitchd"}}
	unlock := &call{method: "unlock", params: []any{"ovs_vswitchd"}}
	if err := s.ask(lock, unlock); err != nil {
		return false, err
	}
	answer, err := s.await(lock, answerTime)
	if err != nil {
		return false, err
	}
	if _, err := s.await(unlock, answerTime); err != nil {
		return false, err
	}
	var got struct {
		Locked bool `json:"locked"`
	}
	err = json.Unmarshal(answer, &got)
	return !got.Locked, err
}

// database is the only one that is ours to know.
const database = "Open_vSwitch"

// monitor asks for news of what has our mark, and of bridges that come and go, or whose
// ports do: one may be a NIC of the host's.
func (s *session) monitor() error {
	news := func(columns ...string) map[string]any {
		return map[string]any{"columns": columns, "select": map[string]bool{"initial": false}}
	}
	own := func(columns ...string) map[string]any {
		m := news(columns...)
		m["where"] = []any{marked()}
		return m
	}
	_, err := s.call(answerTime, "monitor_cond", database, "sealane", map[string]any{
		"Bridge":    []any{news("name", "datapath_type", "external_ids", "ports")},
		"Port":      []any{own("name", "tag", "trunks", "vlan_mode", "external_ids", "interfaces")},
		"Interface": []any{own("name", "type", "error", "ofport", "external_ids")},
	})
	return err
}
