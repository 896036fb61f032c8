package loader

import (
	"fmt"
	"math"
	"strings"
)

// Sizes of values: a few hundred bytes to 20 KiB, most of them small.
const (
	minValue = 300
	maxValue = 20 << 10
)

var resources = []string{
	"pods", "pods", "pods", "configmaps", "secrets", "endpointslices", "events", "events", "deployments", "replicasets",
	"leases",
}

// key returns the key of a writer's object.
func (w *writer) key(n int) string {
	resource := resources[n%len(resources)]
	return fmt.Sprintf("/registry/%s/namespace-%02d/%s-%d-%08x",
		resource, (n/7)%50, strings.TrimSuffix(resource, "s"), w.id, uint32(n)*2654435761)
}

// value returns an object as it is stored: a short binary header, names that come back in every object, and ids, times
// and hashes that do not. It compresses about as well as the real ones.
func (w *writer) value(n int) string {
	size := minValue + int((maxValue-minValue)*math.Pow(w.rand.Float64(), 4))
	var b strings.Builder
	b.Grow(size + 512)
	fmt.Fprintf(&b, "k8s\x00\n\x09\n\x02v1\x12\x03Pod\x12\xa4\x08\n\x9d\x05\n\x1e%s\x12\x00"+
		"\x1a\x07default\"\x00*$%s2\x008\x00B\x08\x08%08x\x10\x00",
		w.key(n), w.uuid(), w.rand.Uint32())
	for b.Len() < size {
		switch w.rand.IntN(4) {
		case 0:
			fmt.Fprintf(&b, "Z\x1f\n\x16app.kubernetes.io/name\x12\x05app-%dZ\x2a\n\x11pod-template-hash\x12\x0a%010x",
				n%20, w.rand.Uint32())
		case 1:
			b.WriteString(`{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{},"f:pod-template-hash":{}},` +
				`"f:ownerReferences":{".":{},"k:{\"uid\":\"` +
				w.uuid() + `\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:image":{},"f:resources":{}}}}}`)
		case 2:
			fmt.Fprintf(&b, "\x12\x05image\x1aregistry.example/app-%d@sha256:%s%s", n%20, w.hex(), w.hex())
		default:
			fmt.Fprintf(&b, "lastTransitionTime\x122026-%02d-%02dT%02d:%02d:%02dZ\x1a\x04Trueresource-version%d",
				1+w.rand.IntN(12), 1+w.rand.IntN(28), w.rand.IntN(24), w.rand.IntN(60), w.rand.IntN(60), w.rand.IntN(1e9))
		}
	}
	return b.String()[:size]
}

func (w *writer) uuid() string {
	a, b := w.rand.Uint64(), w.rand.Uint64()
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&(1<<48-1))
}

func (w *writer) hex() string { return fmt.Sprintf("%016x%016x", w.rand.Uint64(), w.rand.Uint64()) }
