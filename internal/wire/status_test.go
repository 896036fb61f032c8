package wire_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// reasons returns the value of every constant in the domain's list.
func reasons(t *testing.T) []snapshot.Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../snapshot/error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []snapshot.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Reason" {
			return true
		}
		for _, v := range spec.Values {
			value, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, snapshot.Reason(value))
		}
		return true
	})
	return found
}

// The table says of every reason its meaning and the operator's way out.
func TestEveryReasonIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "| reason | what it means | what to do |")
	for _, r := range reasons(t) {
		if !strings.Contains(table, "`"+string(r)+"`") {
			t.Errorf("docs/operations.md says nothing of %s", r)
		}
	}
}

// TestNoReasonIsForgotten: a reason without a code would reach callers as a defect of the service.
func TestNoReasonIsForgotten(t *testing.T) {
	all := reasons(t)
	if len(all) < 15 {
		t.Fatalf("only %d reasons were found: %q", len(all), all)
	}
	for _, r := range all {
		code := wire.Status(r.New(""), "", nil).Code()
		if code == codes.OK || code == codes.Unknown || (code == codes.Internal) != (r == snapshot.ReasonInternal) {
			t.Errorf("%s has the code %v", r, code)
		}
	}
}

func TestDetailsAreReadAsTheyWereWritten(t *testing.T) {
	failed := snapshot.ReasonNoSpace.New("").On("local")
	failed.Field, failed.Retry = "backends", time.Minute
	d := wire.DetailsOf(wire.Status(failed, "prod", &snapshot.Snapshot{Name: "a"}).Err())
	if d.Reason != snapshot.ReasonNoSpace || d.Backend != "local" || d.Cluster != "prod" || d.Field != "backends" ||
		d.Retry != time.Minute || d.Snapshot.GetName() != "a" {
		t.Errorf("details are %+v", d)
	}
}

func TestNoErrorIsOK(t *testing.T) {
	if err := wire.Status(nil, "prod", nil).Err(); err != nil {
		t.Errorf("the status of no error is %v", err)
	}
}

func TestErrorsOfOthersHaveNoDetails(t *testing.T) {
	for _, err := range []error{nil, errors.New("plain"), status.Error(codes.Unavailable, "connection refused")} {
		if d := wire.DetailsOf(err); !reflect.DeepEqual(d, wire.Details{}) {
			t.Errorf("details of %v are %+v", err, d)
		}
	}
}

// A status has to fit into the headers that clients take, and the reason of each copy is worth more than all copies.
func TestAPruneThatRemovedNothingFitsIntoItsError(t *testing.T) {
	decided := &snapshotdv1.PruneResponse{}
	for i := range 1000 {
		decided.Decisions = append(decided.Decisions, wire.DecisionToProto("prod", cluster.Decision{
			Name: fmt.Sprintf("etcd-snapshot-node-1-%d", i), Backend: "s3", Why: strings.Repeat("no rule keeps it ", 50),
			Err: snapshot.ReasonBackendAccessDenied.New("%s", strings.Repeat("denied ", 300)).On("s3"), Stays: i%2 == 1,
		}))
	}
	st := wire.PruneStatus(snapshot.ReasonBackendAccessDenied.New("%s", strings.Repeat("denied ", 300)), "prod", decided)
	if size := proto.Size(st.Proto()); size > 6<<10 {
		t.Errorf("the status has %d bytes", size)
	}
	some := wire.DetailsOf(st.Err()).Pruned.GetDecisions()
	if len(some) < 2 || some[0].GetName() != "etcd-snapshot-node-1-0" || some[1].GetName() != "etcd-snapshot-node-1-2" ||
		wire.DetailsOf(status.ErrorProto(some[1].GetError())).Reason != snapshot.ReasonBackendAccessDenied {
		t.Errorf("it comes with %v", some)
	}
}

// What is gone is worth more than why something else is not.
func TestAPruneThatEndedEarlyTellsFirstWhatIsGone(t *testing.T) {
	end := snapshot.ReasonCancelled.New("prune")
	decided := &snapshotdv1.PruneResponse{}
	for i := range 1000 {
		d := cluster.Decision{Name: fmt.Sprint(i), Backend: "s3", Why: "no rule keeps it", Stays: i%3 == 0}
		if i%3 == 1 {
			d.Err = snapshot.ReasonBackendUnavailable.New("no answer")
		}
		decided.Decisions = append(decided.Decisions, wire.DecisionToProto("prod", d))
	}
	st := wire.PruneStatus(end, "prod", decided)
	if size := proto.Size(st.Proto()); size > 6<<10 {
		t.Errorf("the status has %d bytes", size)
	}
	some := wire.DetailsOf(st.Err()).Pruned.GetDecisions()
	if len(some) < 20 || some[0].GetName() != "2" || some[19].GetName() != "59" || some[19].GetError() != nil {
		t.Errorf("it comes with %v", some)
	}
	kept := &snapshotdv1.PruneResponse{Decisions: []*snapshotdv1.PruneDecision{{Name: "a", Stays: true}}}
	if d := wire.DetailsOf(wire.PruneStatus(end, "prod", kept).Err()); d.Pruned != nil {
		t.Errorf("nothing was removed, and it comes with %v", d.Pruned)
	}
}
