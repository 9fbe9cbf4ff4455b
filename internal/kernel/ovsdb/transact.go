package ovsdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sealane/sealane/internal/kernel"
)

// The mark, in external_ids of each row of ours.
const (
	ownerKey = "owner"
	owner    = "sealane"
	indexKey = "sealane.ifindex" // of a port: the number of the device that it was made for
)

// operation is one of a transaction (RFC 7047, section 5.2).
type operation map[string]any

// marked selects rows with our mark.
func marked() []any {
	return []any{"external_ids", "includes", mapOf(map[string]string{ownerKey: owner})}
}

func is(column string, value any) []any { return []any{column, "==", value} }

func rowsOf(table string, where []any, columns ...string) operation {
	if where == nil {
		where = []any{}
	}
	return operation{"op": "select", "table": table, "where": where, "columns": columns}
}

func insert(table, as string, r map[string]any) operation {
	return operation{"op": "insert", "table": table, "uuid-name": as, "row": r}
}

func update(table string, where []any, r map[string]any) operation {
	return operation{"op": "update", "table": table, "where": where, "row": r}
}

func mutate(table string, where []any, column, how string, value any) operation {
	if where == nil {
		where = []any{}
	}
	return operation{"op": "mutate", "table": table, "where": where, "mutations": []any{[]any{column, how, value}}}
}

// result is what came of an operation.
type result struct {
	Rows    []row  `json:"rows"`
	Error   string `json:"error"`
	Details string `json:"details"`
}

// refusal is an operation that the server did not carry out, and with it the
// whole transaction.
type refusal struct {
	at             int // which; as many as there are: all of them together
	word, sentence string
}

// Error is "word: sentence", both the server's.
func (e *refusal) Error() string {
	if e.sentence == "" {
		return e.word
	}
	return e.word + ": " + e.sentence
}

// Is takes what must be there once for what is in use.
func (e *refusal) Is(target error) bool {
	return target == kernel.ErrInUse && e.word == "constraint violation"
}

// parseResults reads the answer to a transaction.
func parseResults(raw json.RawMessage) ([]result, error) {
	var list []*result // null: not carried out
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("answer to transact: %w", err)
	}
	out := make([]result, len(list))
	for i, r := range list {
		if r == nil {
			continue
		}
		if r.Error != "" {
			return nil, &refusal{i, r.Error, r.Details}
		}
		out[i] = *r
	}
	return out, nil
}

// transact carries out operations, all or none.
func (s *session) transact(patience time.Duration, ops ...operation) ([]result, error) {
	params := []any{database}
	for _, o := range ops {
		params = append(params, o)
	}
	raw, err := s.call(patience, "transact", params...)
	if err != nil {
		return nil, err
	}
	out, err := parseResults(raw)
	if err == nil && len(out) < len(ops) {
		err = errors.New("answer to transact: too few results")
	}
	return out, err
}

// commit carries out changes and returns the configuration that they make, and
// the one that ovs-vswitchd has come to.
func (s *session) commit(ops []operation) (config, done int, err error) {
	ops = append(ops,
		mutate("Open_vSwitch", nil, "next_cfg", "+=", 1),
		rowsOf("Open_vSwitch", nil, "next_cfg", "cur_cfg"))
	out, err := s.transact(answerTime, ops...)
	if err != nil {
		return 0, 0, err
	}
	rows := out[len(ops)-1].Rows
	config, err = number(rows, "next_cfg")
	done, bad := number(rows, "cur_cfg")
	return config, done, errors.Join(err, bad)
}

// number reads a number of the only row.
func number(rows []row, column string) (int, error) {
	if len(rows) != 1 {
		return 0, fmt.Errorf("%d rows with %s", len(rows), column)
	}
	n, err := rows[0].numbers(column)
	if err == nil && len(n) != 1 {
		err = fmt.Errorf("column %s: %d values", column, len(n))
	}
	if err != nil {
		return 0, err
	}
	return n[0], nil
}

// settle waits until ovs-vswitchd has done what a configuration says: until no
// row has a lower cur_cfg. Ports are how many come or go by then.
func (s *session) settle(config, ports int) error {
	patience := settleTime + time.Duration(ports)*portTime
	_, err := s.transact(patience+answerTime, operation{
		"op": "wait", "table": "Open_vSwitch", "timeout": patience.Milliseconds(), "until": "==",
		"where": []any{[]any{"cur_cfg", "<", config}}, "columns": []string{"cur_cfg"}, "rows": []any{},
	})
	if r, ok := errors.AsType[*refusal](err); ok && r.word == "timed out" {
		return fmt.Errorf("Open vSwitch: ovs-vswitchd: not done within %v", patience)
	}
	return err
}
