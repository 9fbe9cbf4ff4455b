// Package model holds the words of the domain: networks, sandboxes, endpoints
// and published ports as plain values, what makes them valid, and the errors
// that cross package boundaries. It depends on nothing but the standard
// library and never touches the system.
package model

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says who must act on an error. Front-ends map kinds to exit status and
// HTTP status, one table each.
type Kind string

// The kinds of error.
const (
	Invalid     Kind = "invalid"     // the request makes no sense; say it differently
	NotFound    Kind = "not-found"   // no such object
	Conflict    Kind = "conflict"    // taken by another: a name, an address, a port, a subnet
	InUse       Kind = "in-use"      // cannot be removed while something uses it
	Exhausted   Kind = "exhausted"   // a pool is empty
	Gone        Kind = "gone"        // it was there: a namespace or process that ended
	Unsupported Kind = "unsupported" // this kernel cannot do it
	Denied      Kind = "denied"      // not allowed
	Internal    Kind = "internal"    // ours: a failed op, a full disk
)

// Error is an error at a boundary. Its text is one line, "ref: op: cause".
type Error struct {
	Kind Kind
	Ref  string // the object, as its user names it: "network app"
	Op   string // what was being done: "create"
	Err  error  // the cause
	Hint string // what would be right, when one sentence can say it
}

// Error is "ref: op: cause (hint)", leaving out what is empty, and where the cause begins
// with the ref, the op, or whom that names, what was said already.
func (e *Error) Error() string {
	var parts []string
	for _, p := range []string{e.Ref, e.Op} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if e.Err != nil {
		_, whom, _ := strings.Cut(e.Op, " ")
		cause := e.Err.Error()
		for _, said := range []string{e.Ref, e.Op, whom} {
			if said != "" {
				cause = strings.TrimPrefix(cause, said+": ")
			}
		}
		parts = append(parts, cause)
	}
	s := strings.Join(parts, ": ")
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost Error in err, or Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Errorf makes an Error of a kind about ref, with a formatted cause (%w works).
func Errorf(kind Kind, ref, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Ref: ref, Op: op, Err: fmt.Errorf(format, args...)}
}

// WithHint adds a hint and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// UnfinishedError is an error of what is done in steps, each wholly or not at all: what
// is done stays so.
type UnfinishedError struct {
	Err        error    // why the first of Left could not be done
	Done, Left []string // steps, a line each, in order
}

// Error is that of the step that could not be done.
func (e *UnfinishedError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the step that could not be done.
func (e *UnfinishedError) Unwrap() error { return e.Err }
