//go:build e2e

package e2e

import (
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// kubernetes is a real API server that knows the resources of the Prometheus operator, and the chart with its tools.
type kubernetes struct {
	*testenv.APIServer
	*chart
}

func startKubernetes(t *testing.T) *kubernetes {
	t.Helper()
	if os.Getenv("SNAPSHOTD_APISERVER") == "" {
		t.Skip("SNAPSHOTD_APISERVER is not set: building Kubernetes' API server takes minutes of processor time")
	}
	k := &kubernetes{testenv.StartAPIServer(t), newChart(t)}
	for _, name := range []string{"podmonitors", "prometheusrules"} {
		for _, m := range k.read(t, filepath.Join(k.definitions, "monitoring.coreos.com_"+name+".yaml")) {
			if _, err := k.Apply(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, kind := range []string{"PodMonitor", "PrometheusRule"} {
		k.Await(manifest{"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": map[string]any{"namespace": "default"}})
	}
	return k
}

// manifest is an object as it is applied.
type manifest = map[string]any

// manifests takes YAML apart.
func manifests(t *testing.T, text string) (all []manifest) {
	t.Helper()
	for docs := yaml.NewDecoder(strings.NewReader(text)); ; {
		var m manifest
		switch err := docs.Decode(&m); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("%v\n%s", err, text)
		case m != nil:
			all = append(all, m)
		}
	}
}

// read reads a file, or builds a kustomization.
func (k *kubernetes) read(t *testing.T, path string) []manifest {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), k.judge, "-build", path).Output()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return manifests(t, string(out))
}

// namespace makes a namespace that takes pods of the standard "restricted" alone, and warns of sets that would make
// others. The account of pods that name none is made by a controller elsewhere.
func (k *kubernetes) namespace(t *testing.T, name string) {
	t.Helper()
	k.apply(t, manifest{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "labels": map[string]any{
		"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
	}}})
	k.account(t, name)
}

func (k *kubernetes) account(t *testing.T, namespace string) {
	t.Helper()
	k.apply(t, manifest{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "default", "namespace": namespace}})
}

// apply applies objects, and the pod that each StatefulSet would make: the server takes all of them, and warns of none.
func (k *kubernetes) apply(t *testing.T, objects ...manifest) {
	t.Helper()
	for _, m := range objects {
		if m["kind"] == "StatefulSet" {
			objects = append(slices.Clip(objects), podOf(m))
		}
	}
	for _, m := range objects {
		answer, err := k.Apply(m)
		if err != nil || len(answer.Warnings) > 0 {
			t.Errorf("the API server has taken a %s with the error %v and the warnings %q:\n%v", m["kind"], err, answer.Warnings, m)
		}
	}
}

// podOf returns the first pod of a StatefulSet, as its controller makes it.
func podOf(set manifest) manifest {
	meta, spec := set["metadata"].(manifest), set["spec"].(manifest)
	template := spec["template"].(manifest)
	pod := maps.Clone(template["spec"].(manifest))
	volumes, _ := pod["volumes"].([]any)
	claims, _ := spec["volumeClaimTemplates"].([]any)
	for _, c := range claims {
		name := c.(manifest)["metadata"].(manifest)["name"]
		volumes = append(slices.Clip(volumes), manifest{"name": name, "persistentVolumeClaim": manifest{"claimName": name}})
	}
	pod["volumes"] = volumes
	of := maps.Clone(template["metadata"].(manifest))
	of["namespace"], of["generateName"] = meta["namespace"], meta["name"].(string)+"-"
	return manifest{"apiVersion": "v1", "kind": "Pod", "metadata": of, "spec": pod}
}

// TestAnAPIServerTakesTheManifests applies to a real API server all that deploy/kubernetes has, and all that the chart
// makes of three sets of values. Helm installs, upgrades and uninstalls each of them there, too.
func TestAnAPIServerTakesTheManifests(t *testing.T) {
	k := startKubernetes(t)
	t.Run("what it would refuse", func(t *testing.T) { testRefusals(t, k) })
	t.Run("deploy/kubernetes", func(t *testing.T) {
		dir := filepath.Join(testenv.Root(), "deploy", "kubernetes")
		all := k.read(t, dir)
		i := slices.IndexFunc(all, func(m manifest) bool { return m["kind"] == "Namespace" })
		if i < 0 {
			t.Fatal("there is no namespace")
		}
		k.apply(t, all[i])
		k.account(t, "snapshotd")
		k.apply(t, slices.Delete(all, i, i+1)...)
		k.apply(t, k.read(t, filepath.Join(dir, "secrets.example.yaml"))...)
		for _, file := range []string{"prometheusrule.yaml", "podmonitor.yaml"} {
			k.apply(t, k.read(t, filepath.Join(testenv.Root(), "deploy", "prometheus", file))...)
		}
	})
	for _, name := range []string{"small", "memory", "large"} {
		t.Run("chart, "+name, func(t *testing.T) {
			k.namespace(t, name)
			out, said, err := k.run(t, "template", "backup", k.dir, "--namespace", name, "--values", values(name))
			if err != nil {
				t.Fatalf("helm template: %v\n%s", err, said)
			}
			k.apply(t, manifests(t, out)...)
		})
		t.Run("helm install, "+name, func(t *testing.T) {
			space := "helm-" + name
			k.namespace(t, space)
			at := []string{"--namespace", space, "--kube-apiserver", k.URL, "--kube-token", k.Token, "--kube-ca-file", k.CAFile}
			given := []string{"backup", k.dir, "--values", values(name)}
			for _, args := range [][]string{
				append([]string{"install"}, given...),
				append([]string{"upgrade", "--set", "config.reconcile_interval=5m"}, given...),
				{"uninstall", "backup"},
			} {
				out, said, err := k.run(t, append(args, at...)...)
				if err != nil || strings.Contains(strings.ToLower(said), "warn") {
					t.Errorf("helm %s: %v\n%s%s", args[0], err, out, said)
				}
			}
		})
	}
}

// testRefusals: the server is as strict as the other tests of it take for granted.
func testRefusals(t *testing.T, k *kubernetes) {
	k.namespace(t, "strict")
	pod := func(change func(m, container manifest)) manifest {
		c := manifest{
			"name": "a", "image": "a", "securityContext": manifest{
				"allowPrivilegeEscalation": false, "capabilities": manifest{"drop": []any{"ALL"}},
			},
		}
		m := manifest{"apiVersion": "v1", "kind": "Pod", "metadata": manifest{"namespace": "strict", "generateName": "a-"}, "spec": manifest{
			"containers": []any{c}, "securityContext": manifest{"runAsNonRoot": true, "seccompProfile": manifest{"type": "RuntimeDefault"}},
		}}
		change(m, c)
		return m
	}
	k.apply(t, pod(func(manifest, manifest) {}))
	for want, m := range map[string]manifest{
		"violates PodSecurity": pod(func(_, c manifest) { delete(c, "securityContext") }),
		"unknown field":        pod(func(_, c manifest) { c["imagePullPolice"] = "Always" }),
		"Unsupported value":    pod(func(_, c manifest) { c["imagePullPolicy"] = "Sometimes" }),
	} {
		if _, err := k.Apply(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("an error about %q was expected, and not %v", want, err)
		}
	}
	set := manifest{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": manifest{"namespace": "strict", "name": "a"}, "spec": manifest{
			"serviceName": "a", "selector": manifest{"matchLabels": manifest{"a": "a"}}, "template": manifest{
				"metadata": manifest{"labels": manifest{"a": "a"}}, "spec": manifest{"containers": []any{manifest{"name": "a", "image": "a"}}},
			},
		},
	}
	if answer, err := k.Apply(set); err != nil || len(answer.Warnings) == 0 {
		t.Errorf("a set of pods that are not allowed is taken with the error %v and the warnings %q", err, answer.Warnings)
	}
}
