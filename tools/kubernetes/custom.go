package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	extensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// definitions are the custom resources that are known, by group and kind.
type definitions map[schema.GroupKind]*extensionsv1.CustomResourceDefinition

// readDefinitions reads the definitions of custom resources in a directory; none without one.
func readDefinitions(dir string) (definitions, error) {
	all := definitions{}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || dir == "" {
		return all, err
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var d extensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(b, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all[schema.GroupKind{Group: d.Spec.Group, Kind: d.Spec.Names.Kind}] = &d
	}
	return all, nil
}

// object reads a document as an object of one of the definitions; nil if it is of none.
func (d definitions) object(doc []byte) (*unstructured.Unstructured, error) {
	o := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict(doc, &o.Object); err != nil {
		return nil, err
	}
	if _, ok := d[o.GroupVersionKind().GroupKind()]; !ok {
		return nil, nil
	}
	return o, nil
}

// validate says what the API server would not take of an object, and which of its fields it would drop.
func (d definitions) validate(o *unstructured.Unstructured) error {
	of := d[o.GroupVersionKind().GroupKind()]
	for _, v := range of.Spec.Versions {
		if v.Name != o.GroupVersionKind().Version {
			continue
		}
		props := new(apiextensions.JSONSchemaProps)
		err := extensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, props, nil)
		if err != nil {
			return err
		}
		shape, err := structural.NewStructural(props)
		if err != nil {
			return err
		}
		opts := structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
		if unknown := pruning.PruneWithOptions(o.DeepCopy().Object, shape, true, opts); len(unknown) > 0 {
			return fmt.Errorf("unknown fields: %s", strings.Join(unknown, ", "))
		}
		validator, _, err := validation.NewSchemaValidator(props)
		if err != nil {
			return err
		}
		return validation.ValidateCustomResource(nil, o.Object, validator).ToAggregate()
	}
	return fmt.Errorf("there is no version %s", o.GroupVersionKind().Version)
}
