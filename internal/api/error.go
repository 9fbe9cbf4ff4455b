package api

import (
	"errors"

	"github.com/sealane/sealane/internal/model"
)

// ErrorBody is the body of every answer that is not a success.
type ErrorBody struct {
	Error ErrorDetail `json:"error"`
}

// ErrorDetail is an error on the wire.
type ErrorDetail struct {
	Kind    model.Kind `json:"kind"`
	Message string     `json:"message"` // one line, "object: operation: cause"
	// Done and Left are of what is done in steps, as a stack: those that were done before
	// the error, and stay so, and those that were not, first the one that could not be.
	Done []string `json:"done,omitempty"`
	Left []string `json:"left,omitempty"`
}

// statuses is the one table from kinds of error to HTTP status (RFC 9110, section 15).
var statuses = map[model.Kind]int{
	model.Invalid:     400,
	model.NotFound:    404,
	model.Conflict:    409,
	model.InUse:       409,
	model.Exhausted:   503,
	model.Gone:        410,
	model.Unsupported: 501,
	model.Denied:      403,
	model.Internal:    500,
}

// StatusOf returns the HTTP status for a kind of error.
func StatusOf(k model.Kind) int {
	if s, ok := statuses[k]; ok {
		return s
	}
	return statuses[model.Internal]
}

// err is the error as a Go value again.
func (d ErrorDetail) err() error {
	err := &model.Error{Kind: d.Kind, Err: errors.New(d.Message)}
	if len(d.Left) == 0 {
		return err
	}
	return &model.UnfinishedError{Err: err, Done: d.Done, Left: d.Left}
}
