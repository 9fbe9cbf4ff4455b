package api

import (
	"errors"
	"net/http"

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
}

// statuses is the one table from kinds of error to HTTP status.
var statuses = map[model.Kind]int{
	model.Invalid:     http.StatusBadRequest,
	model.NotFound:    http.StatusNotFound,
	model.Conflict:    http.StatusConflict,
	model.InUse:       http.StatusConflict,
	model.Exhausted:   http.StatusServiceUnavailable,
	model.Gone:        http.StatusGone,
	model.Unsupported: http.StatusNotImplemented,
	model.Denied:      http.StatusForbidden,
	model.Internal:    http.StatusInternalServerError,
}

// StatusOf returns the HTTP status for a kind of error.
func StatusOf(k model.Kind) int {
	if s, ok := statuses[k]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// err is the error as a Go value again.
func (d ErrorDetail) err() error {
	return &model.Error{Kind: d.Kind, Err: errors.New(d.Message)}
}
