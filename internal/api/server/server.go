// Package server answers the HTTP API: it turns requests into calls of the
// engine and what the engine holds into the API's JSON. One table (route.go)
// registers the handlers and makes the OpenAPI document, so the two agree.
//
// It does not listen: the daemon serves the handler wherever it wants, and who
// may connect is a matter of the socket's mode.
package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"strings"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// Info is what the API says about the daemon.
type Info struct {
	Version string  // of the daemon
	RunDir  string  // where the files of sandboxes are
	Cluster Cluster // nil: the hosts share an etcd that is not Sealane's
}

// Logger takes what somebody should see: errors that are ours. *slog.Logger
// is one.
type Logger interface {
	Error(msg string, args ...any)
}

// service is the state behind the handlers.
type service struct {
	engine  *engine.Engine
	info    Info
	log     Logger
	mux     *http.ServeMux
	openapi json.RawMessage
}

// New returns the handler of the API of an engine that has started.
func New(e *engine.Engine, info Info, log Logger) http.Handler {
	routes := table()
	s := &service{engine: e, info: info, log: log, mux: http.NewServeMux(), openapi: document(routes, info.Version)}
	for _, r := range routes {
		s.mux.Handle(r.method+" "+r.path, s.handler(r))
	}
	s.mux.HandleFunc("/", s.unknown)
	return s
}

// ServeHTTP answers one request. A panic is answered too: it is our fault, and
// the client should read more than the end of a connection.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in a request", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			s.refuse(w, r, http.StatusInternalServerError, model.Errorf(model.Internal, "request", "", "internal error; the log has the details"))
		}
	}()
	if p := r.URL.EscapedPath(); p != path.Clean(p) {
		s.noRoute(w, r) // the mux would answer with a redirect
		return
	}
	s.mux.ServeHTTP(w, r)
}

// handler serves one route.
func (s *service) handler(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, api.MaxBody)
		res, err := rt.serve(s, r)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case rt.response == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			s.answer(w, r, http.StatusOK, res)
		}
	}
}

// fail answers with an error and the HTTP status of its kind.
func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := api.StatusOf(model.KindOf(err))
	if e, ok := errors.AsType[*bodyError](err); ok {
		status = e.status
	}
	if status == http.StatusInternalServerError {
		s.log.Error("request", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	s.refuse(w, r, status, err)
}

func (s *service) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	detail := api.ErrorDetail{Kind: model.KindOf(err), Message: strings.Join(model.Lines(err), "; ")}
	if e, ok := errors.AsType[*model.UnfinishedError](err); ok {
		detail.Done, detail.Left = e.Done, e.Left
	}
	s.answer(w, r, status, api.ErrorBody{Error: detail})
}

func (s *service) answer(w http.ResponseWriter, r *http.Request, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		s.log.Error("answer", "method", r.Method, "path", r.URL.Path, "err", err)
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a client that hung up does not read errors
}

// unknown answers what no route takes: a wrong path, or a wrong method.
func (s *service) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut} {
		probe := &http.Request{Method: m, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); strings.HasPrefix(pattern, m+" ") {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		s.noRoute(w, r)
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	s.refuse(w, r, http.StatusMethodNotAllowed, model.Errorf(model.Invalid, "path "+r.URL.Path, "", "method %s: want %s", r.Method, strings.Join(allowed, " or ")))
}

func (s *service) noRoute(w http.ResponseWriter, r *http.Request) {
	s.refuse(w, r, http.StatusNotFound, model.Errorf(model.NotFound, "path "+r.URL.Path, "", "no such route").
		WithHint("GET %s lists the routes", openapiPath))
}

// bodyError is a body that was not read, with the HTTP status that says why.
type bodyError struct {
	status int
	err    error
}

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

func badBody(status int, format string, args ...any) error {
	return &bodyError{status, model.Errorf(model.Invalid, "request body", "", format, args...)}
}

// invalid makes the error of a request that makes no sense.
func invalid(ref, op, format string, args ...any) error {
	return model.Errorf(model.Invalid, ref, op, "%w", fmt.Errorf(format, args...))
}
