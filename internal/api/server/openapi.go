package server

import (
	"encoding/json"
	"math"
	"net/http"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/api"
)

// object is a JSON object of the document.
type object = map[string]any

// document makes the OpenAPI 3.1 document of the routes
// (spec.openapis.org/oas/v3.1.0). Request types take no unknown fields;
// answers may grow.
func document(routes []route, version string) json.RawMessage {
	b := schemas{components: object{}}
	paths := object{}
	for _, r := range routes {
		item, ok := paths[r.path].(object)
		if !ok {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = b.operation(r)
	}
	doc, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Sealane", "version": version,
			"description": "Container networking. The API is served on a unix socket.",
		},
		"servers":    []any{object{"url": "http://sealane"}},
		"paths":      paths,
		"components": object{"schemas": b.components},
	})
	if err != nil {
		return json.RawMessage(`{}`) // maps, lists and strings: it cannot be
	}
	return doc
}

// schemas collects the schemas of named types.
type schemas struct{ components object }

func (b schemas) operation(r route) object {
	op := object{"summary": r.summary, "operationId": operationID(r), "responses": b.responses(r)}
	if params := parameters(r); len(params) > 0 {
		op["parameters"] = params
	}
	if r.request != nil {
		body := object{"schema": b.schema(r.request, true)}
		content := object{"application/json": body}
		if r.yaml {
			content[yamlTypes[0]] = body
		}
		// A body that the query can stand in for is not required.
		op["requestBody"] = object{"required": len(r.query) == 0 || r.yaml, "content": content}
	}
	return op
}

// pathWord is what an operation is called after, beside its method.
var pathWord = regexp.MustCompile(`[a-z]+|\{`)

// operationID makes a name: DELETE /v1/networks/{ref} is deleteNetworksRef.
func operationID(r route) string {
	id := strings.ToLower(r.method)
	for _, w := range pathWord.FindAllString(strings.TrimPrefix(r.path, prefix), -1) {
		if w != "{" {
			id += strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return id
}

func parameters(r route) []any {
	var out []any
	if strings.Contains(r.path, "{ref}") {
		out = append(out, object{
			"name": "ref", "in": "path", "required": true, "schema": object{"type": "string"},
			"description": "a name, an ID or the beginning of an ID; for sandboxes also netns:PATH or pid:N, escaped as one segment",
		})
	}
	for _, q := range r.texts {
		out = append(out, object{"name": q.name, "in": "query", "required": true, "description": q.description, "schema": object{"type": "string"}})
	}
	for _, q := range r.offers {
		out = append(out, object{"name": q.name, "in": "query", "description": q.description, "schema": object{"type": "string"}})
	}
	for _, q := range r.query {
		schema := object{"type": "boolean"}
		if q.list {
			schema = object{"type": "array", "items": object{"type": "string"}}
		}
		out = append(out, object{"name": q.name, "in": "query", "description": q.description, "schema": schema})
	}
	return out
}

func (b schemas) responses(r route) object {
	body := func(t reflect.Type) object {
		return object{"application/json": object{"schema": b.schema(t, false)}}
	}
	out := object{"default": object{"description": "an error", "content": body(reflect.TypeFor[api.ErrorBody]())}}
	if r.response == nil {
		out["204"] = object{"description": http.StatusText(http.StatusNoContent)}
	} else {
		out["200"] = object{"description": http.StatusText(http.StatusOK), "content": body(r.response)}
	}
	return out
}

// schema describes a type; a struct by reference to a component. closed ones
// take no other fields.
func (b schemas) schema(t reflect.Type, closed bool) object {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return object{"type": "string", "description": "an IP address, or empty"}
	case reflect.TypeFor[netip.Prefix]():
		return object{"type": "string", "description": "an IP address with the length of its subnet, ADDRESS/BITS"}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return object{"type": "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return b.schema(t.Elem(), closed)
	case reflect.Slice:
		return object{"type": "array", "items": b.schema(t.Elem(), closed)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": b.schema(t.Elem(), closed)}
	case reflect.Struct:
		return b.reference(t, closed)
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Uint16:
		return object{"type": "integer", "minimum": 0, "maximum": 65535}
	case reflect.Uint64:
		return object{"type": "integer", "minimum": 0, "maximum": uint64(math.MaxUint64), "format": "uint64"}
	}
	return object{"type": "integer"}
}

func (b schemas) reference(t reflect.Type, closed bool) object {
	ref := object{"$ref": "#/components/schemas/" + t.Name()}
	if b.components[t.Name()] != nil {
		return ref
	}
	component := object{"type": "object"}
	b.components[t.Name()] = component // before its fields: a type may contain itself
	properties, required := object{}, []string{}
	for _, f := range fields(t) {
		properties[f.name] = b.schema(f.typ, closed)
		if !f.optional {
			required = append(required, f.name)
		}
	}
	component["properties"], component["required"] = properties, required
	if closed {
		component["additionalProperties"] = false
	}
	return ref
}
