package api

import (
	"context"
	"net/url"
)

// Stack is what there is of a stack, the networks and services of one file: GET /v1/stacks.
type Stack struct {
	Name     string   `json:"name"`
	Networks []string `json:"networks"` // names, of those that this host has
	Services []string `json:"services"` // names
}

// File is a declaration as somebody wrote it, JSON or YAML, of Sealane's or of Compose's
// format.
type File struct {
	Text        []byte
	ContentType string
	Name        string   // what errors call it; may be empty
	Stack       string   // the name of the stack, instead of the file's; may be empty
	Variables   []string // NAME=VALUE
}

// query is what is not in the file.
func (f File) query() string {
	q := url.Values{}
	for k, v := range map[string]string{"file": f.Name, "stack": f.Stack} {
		if v != "" {
			q.Set(k, v)
		}
	}
	for _, v := range f.Variables {
		q.Add("variable", v)
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// Plan returns what Apply would do.
func (c *Client) Plan(ctx context.Context, f File) (ops Ops, err error) {
	err = c.send(ctx, methodPost, "/plan"+f.query(), f.ContentType, f.Text, &ops)
	return ops, err
}

// Apply makes what a declaration says and is not there yet, all or nothing; of a stack
// step by step, and what the stack has no more is removed.
func (c *Client) Apply(ctx context.Context, f File) (ops Ops, err error) {
	err = c.send(ctx, methodPost, "/apply"+f.query(), f.ContentType, f.Text, &ops)
	return ops, err
}

// Stacks lists the stacks by name.
func (c *Client) Stacks(ctx context.Context) ([]Stack, error) {
	return ask[[]Stack](ctx, c, methodGet, "/stacks", nil)
}

// RemoveStack removes the networks and services of a stack.
func (c *Client) RemoveStack(ctx context.Context, name string) error {
	return c.call(ctx, methodDelete, "/stacks/"+segment(name), nil, nil)
}
