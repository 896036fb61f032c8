package telemetry

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// forgotten are the series that the scrape leaves out: of clusters and schedules that are not configured any more.
// Instruments of OpenTelemetry keep each of their series for ever.
type forgotten struct {
	mu  sync.Mutex
	all map[[2]string]bool // cluster and schedule; of the whole cluster when the schedule is empty
}

// Forget leaves the series of a cluster, or of one of its schedules, out of the scrape until it is added again.
func (t *Telemetry) Forget(cluster, schedule string) {
	t.forgotten.set(cluster, schedule, true)
	if schedule == "" {
		t.observer.certificates.drop(cluster)
	}
}

func (f *forgotten) set(cluster, schedule string, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[[2]string]bool{}
	}
	if on {
		f.all[[2]string{cluster, schedule}] = true
	} else {
		delete(f.all, [2]string{cluster, schedule})
	}
}

func (f *forgotten) has(cluster, schedule string) bool {
	return cluster != "" && (f.all[[2]string{cluster, ""}] || schedule != "" && f.all[[2]string{cluster, schedule}])
}

// The types of the registry's library are known by their methods alone: it is not imported for them.
type (
	family[M any] interface {
		GetMetric() []M
		ProtoReflect() protoreflect.Message
	}
	sample[L any] interface{ GetLabel() []L }
	label         interface {
		GetName() string
		GetValue() string
	}
)

// without gathers the series that are not forgotten.
func without[F family[M], M sample[L], L label](f *forgotten, gather func() ([]F, error)) func() ([]F, error) {
	return func() ([]F, error) {
		families, err := gather()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.all) == 0 {
			return families, err
		}
		for _, fam := range families {
			kept := slices.DeleteFunc(fam.GetMetric(), func(m M) bool {
				var cluster, schedule string
				for _, l := range m.GetLabel() {
					switch l.GetName() {
					case "cluster":
						cluster = l.GetValue()
					case "schedule":
						schedule = l.GetValue()
					}
				}
				return f.has(cluster, schedule)
			})
			r := fam.ProtoReflect()
			r.Mutable(r.Descriptor().Fields().ByName("metric")).List().Truncate(len(kept))
		}
		return slices.DeleteFunc(families, func(fam F) bool { return len(fam.GetMetric()) == 0 }), err
	}
}
