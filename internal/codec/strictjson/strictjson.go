// Package strictjson reads JSON objects strictly.
//
// encoding/json takes NAME for name, the last of two members with one name, and null for nothing. Two readers can then
// see two things in one document, so the documents of a repository are held to more than JSON.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// digits is a number of 64 bits as protobuf's JSON mapping writes it, with its quotes.
var digits = regexp.MustCompile(`^"(0|[1-9][0-9]*)"$`)

// Members is a JSON object: its members by name, as they are written.
type Members map[string]json.RawMessage

// Parse returns the members of a document that is one JSON object, in UTF-8, in which no object has two members
// of one name.
func Parse(doc []byte) (Members, error) {
	if !utf8.Valid(doc) {
		return nil, errors.New("it is not UTF-8")
	}
	var m Members
	err := json.Unmarshal(doc, &m) // into a map, whose keys are as they are written
	_, other := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case other, err == nil && m == nil:
		return nil, errors.New("it is not a JSON object")
	case err != nil:
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber() // members that are not known may have any number
	return m, namedOnce(dec)
}

// namedOnce reads the next value and returns an error when an object in it has two members of one name.
func namedOnce(dec *json.Decoder) error {
	t, err := dec.Token()
	begin, composed := t.(json.Delim)
	if err != nil || !composed {
		return err
	}
	names := map[string]bool{}
	for dec.More() {
		if begin == '{' {
			t, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := t.(string)
			if names[name] {
				return fmt.Errorf("the member %.100q is there twice", name)
			}
			names[name] = true
		}
		if err := namedOnce(dec); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the end of the object or list
	return err
}

// Version returns the version of the document's format. It is read before anything else, because a newer format may
// have other types.
func (m Members) Version() (int, error) {
	raw, ok := m["formatVersion"]
	if !ok {
		return 0, errors.New("it has no formatVersion")
	}
	v, err := strconv.ParseInt(string(raw), 10, 32)
	if err != nil || v < 1 {
		return 0, fmt.Errorf("its formatVersion is %.20s, and not a version", raw)
	}
	return int(v), nil
}

// Written returns an error when a member that a struct has, or that is among the others, is not written as the program
// writes it: the name in another case, null, or a number of 64 bits that is not a string of digits.
func (m Members) Written(v any, others ...string) error {
	known := map[string]bool{} // by name; whether it is a string of digits
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		if f.Anonymous {
			continue // its fields follow
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		known[name] = strings.Contains(options, "string")
	}
	for _, name := range others {
		known[name] = false
	}
	for name, raw := range m {
		number, ok := known[name]
		switch {
		case ok && string(raw) == "null":
			return fmt.Errorf("%s is null", name)
		case ok && number && !digits.Match(raw):
			return fmt.Errorf("%s is %.40s, and not a string of digits", name, raw)
		case ok:
			continue
		}
		for k := range known {
			if strings.EqualFold(k, name) {
				return fmt.Errorf("the member %s is written %.100q", k, name)
			}
		}
	}
	return nil
}
