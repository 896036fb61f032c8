package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// choices are the values of settings that have few, by the last two keys of their path.
var choices = map[string][]string{
	"log.level": levels, "log.format": formats, ".compression": compressions, ".role": {"viewer", "operator", "admin"},
	"access.health": needs, "access.reflection": needs, "access.metrics": needs, "access.console": needs,
}

var needs = []string{"open", "viewer", "operator", "admin", "closed"}

// Schema returns the JSON schema of the file, made of the types that it is decoded into. Editors complete and check a
// file by it; the program checks more.
func Schema() ([]byte, error) {
	doc := object(reflect.TypeFor[Config](), "")
	doc["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	doc["title"] = "The configuration of snapshotd"
	cluster := object(reflect.TypeFor[Cluster](), clustersKey)
	defaults := object(reflect.TypeFor[Cluster](), clustersKey)
	delete(defaults["properties"].(map[string]any), "name") // each cluster has its own
	cluster["required"] = []string{}
	doc["$defs"] = map[string]any{"cluster": cluster, defaultsKey: defaults}
	properties := doc["properties"].(map[string]any) // object makes it
	properties[clustersKey] = map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/cluster"}}
	properties[defaultsKey] = map[string]any{"$ref": "#/$defs/defaults"}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return append(b, '\n'), nil
}

// schemaOf returns the schema of a type at a key of the file.
func schemaOf(t reflect.Type, parent, key string) map[string]any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == durationType:
		return map[string]any{"type": "string", "description": "a duration: 30s, 10m, 1h30m, 36h, 7d, 2w"}
	case t == bytesType:
		return map[string]any{"type": []string{"string", "integer"}, "description": "bytes: 500GB, 200GiB, or a number"}
	case t == rateType:
		return map[string]any{
			"type": []string{"string", "integer"}, "description": "bytes per second: 50MiB, 20MB, or a number",
		}
	case t.Kind() == reflect.Struct:
		return object(t, key)
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), parent, key)}
	case t.Kind() == reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem(), parent, key)}
	case t.Kind() == reflect.Bool:
		return map[string]any{"type": "boolean"}
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		return map[string]any{"type": "integer"}
	}
	s := map[string]any{"type": "string"}
	for _, path := range []string{parent + "." + key, "." + key} {
		if values, ok := choices[path]; ok {
			s["enum"] = values
		}
	}
	return s
}

// object returns the schema of a struct. Keys that it does not have are errors.
func object(t reflect.Type, at string) map[string]any {
	properties := map[string]any{}
	addProperties(properties, t, at)
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}

func addProperties(properties map[string]any, t reflect.Type, at string) {
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case opts == "inline":
			addProperties(properties, f.Type, at)
		case at == "" && (name == defaultsKey || name == clustersKey): // they are made apart
		case name != "":
			properties[name] = schemaOf(f.Type, at, name)
		}
	}
}
