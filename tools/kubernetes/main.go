// Command kubernetes judges manifests as Kubernetes' API server would, without one: it builds a kustomization, or reads
// a file, takes each object apart strictly, gives it the defaults, validates it with the server's own code, and holds
// its pods against the Pod Security Standard "restricted". Custom resources are held against their definitions, which
// are in the directory that -definitions names. What it has understood it prints as a JSON list. With -build, it judges
// nothing and prints the manifests.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	dir := flag.String("definitions", "", "directory of definitions of custom resources")
	build := flag.Bool("build", false, "print the manifests, in YAML")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: kubernetes [-build] [-definitions DIRECTORY] DIRECTORY|FILE")
		os.Exit(2)
	}
	if *build {
		manifests, err := read(flag.Arg(0))
		if err == nil {
			_, err = os.Stdout.Write(manifests)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	custom, err := readDefinitions(*dir)
	var objects []runtime.Object
	if err == nil {
		objects, err = judge(flag.Arg(0), custom)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(objects)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// judge returns the objects of a kustomization or a file, with the defaults, and all that is wrong with them.
func judge(path string, custom definitions) (objects []runtime.Object, err error) {
	manifests, err := read(path)
	if err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var errs []error
	for docs := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(manifests))); ; {
		doc, err := next(docs)
		if errors.Is(err, io.EOF) {
			return objects, errors.Join(errs...)
		} else if err != nil {
			return nil, err
		}
		if o, err := custom.object(doc); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w\n%s", path, err, doc))
			continue
		} else if o != nil {
			objects = append(objects, o)
			if err := custom.validate(o); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", o.GetKind(), err))
			}
			continue
		}
		object, kind, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w\n%s", path, err, doc))
			continue
		}
		objects = append(objects, object)
		if err := errors.Join(validate(object), restricted(object)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", kind.Kind, err))
		}
	}
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return os.ReadFile(path)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), path)
	if err != nil {
		return nil, err
	}
	return built.AsYaml()
}

// next returns the next document.
func next(docs io.Reader) ([]byte, error) {
	const most = 1 << 20
	buf := make([]byte, most)
	n, err := docs.Read(buf)
	return buf[:n], err
}

// restricted holds a pod's template against the standard.
func restricted(object runtime.Object) error {
	set, ok := object.(*appsv1.StatefulSet)
	if !ok {
		return nil
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	level := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	pod := &set.Spec.Template
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
	if !result.Allowed {
		return fmt.Errorf("not allowed by the Pod Security Standard %s: %s", level.Level, result.ForbiddenDetail())
	}
	return nil
}
